package scaffold

import (
	"bytes"
	"errors"
	"go/ast"
	"testing"

	"github.com/sop-host/sop/sdk/scaffold/internal/pysrc"
)

func FuzzHeader(f *testing.F) {
	set, err := Bundled()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range set.All() {
		f.Add(s.Source)
	}
	f.Add([]byte("scaffold \"x\" {\n}\n{{range .}}{{end}}"))
	f.Fuzz(func(t *testing.T, source []byte) {
		s, err := Parse("f", source)
		var e *HeaderError
		switch {
		case err == nil && (s.Name == "" || s.template == nil || places[s.Place] == nil):
			t.Error("a scaffold that is not whole was accepted")
		case err != nil && (!errors.As(err, &e) || e.Line < 1 || e.Column < 1):
			t.Errorf("an error without its place: %v", err)
		}
	})
}

func FuzzGoComment(f *testing.F) {
	for _, src := range []string{
		"package p\n\nfunc F() {}\n", "package p\r\n\r\n//go:noinline\r\nfunc F(a, b int) error\r\n", "package p; type ( A int; B = A ) ; var X, y = 1, 2",
		"//go:build a\n\n/* c */ package p /* d */ ; func F() { `\n` }", "package p\n\n// Deprecated: x\nconst (\n\tA = iota // a\n\tB\n)\n",
		"\ufeffpackage p\nfunc (t *T[K]) M(f func(a int, b ...string)) (x chan<- int, err error) { return nil, ErrX }",
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		g, err := parseGo(src)
		if err != nil || bytes.IndexByte(src, 0) >= 0 {
			return
		}
		var names []string
		ast.Inspect(g.file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.IsExported() {
				names = append(names, id.Name)
			}
			return true
		})
		for _, name := range names[:min(len(names), 8)] {
			holds(t, "go-doc", src, Gap{Rule: "docs.go.exported", Path: "a.go", Symbol: name}, goParses)
		}
		holds(t, "go-package", src, Gap{Rule: "docs.go.package", Path: "a.go"}, goParses)
	})
}

func FuzzPythonDocstring(f *testing.F) {
	for _, src := range []string{
		"def f(): pass\n", "class C:\n\tdef f(self, a=(1, 2), *b, c: 'int' = 3, **d) -> x: return 1; yield\n", "#!/x\n# c\n\nx = f'{a[\"b\"]:>{c}}'\n",
		"async def f(a, /, *, b): # c\r\n  '''  '''\r\n  raise E('x')\r\n", "@a.b(c)\ndef f(\n  a, # x\n):\n\n    # y\n    if 1:\n        x = \\\n 2\n",
		"\ufeffclass A(B, m=C): ...", "def f(): '''a\nb'''; x",
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := pysrc.Parse(src)
		if err != nil || bytes.IndexByte(src, 0) >= 0 {
			return
		}
		for _, d := range file.Defs[:min(len(file.Defs), 8)] {
			holds(t, "python-docstring", src, Gap{Rule: "docs.python.function", Path: "a.py", Symbol: d.Qualified, Line: d.Line}, pythonParses)
		}
		holds(t, "python-docstring", src, Gap{Rule: "docs.python.module", Path: "a.py"}, pythonParses)
	})
}

// holds fails when a scaffold makes of src what does not parse, or what is not
// src with something put in.
func holds(t *testing.T, name string, src []byte, gap Gap, parses func([]byte) error) {
	t.Helper()
	changes, err := apply(t, name, &Input{Tree: MapTree{gap.Path: src}, Gap: gap})
	var refusal *RefusedError
	if errors.Is(err, ErrNothing) || errors.As(err, &refusal) {
		return
	}
	if err != nil {
		t.Fatalf("%s on %q: %v", name, src, err)
	}
	after := changes[0].Content
	if err := parses(after); err != nil {
		t.Fatalf("%s made of %q what does not parse: %q: %v", name, src, after, err)
	}
	if languageOf(gap.Path) == "go" && !isSubsequence(src, after) {
		t.Fatalf("%s lost something of %q: %q", name, src, after)
	}
}

// isSubsequence says whether after is before with one piece put in.
func isSubsequence(before, after []byte) bool {
	n := 0
	for n < len(before) && n < len(after) && before[n] == after[n] {
		n++
	}
	for ; n >= 0; n-- {
		if bytes.HasSuffix(after, before[n:]) && len(after)-len(before[n:]) >= n {
			return true
		}
	}
	return false
}
