package scaffold

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func apply(t testing.TB, name string, in *Input) ([]Change, error) {
	t.Helper()
	set, err := Bundled()
	if err != nil {
		t.Fatal(err)
	}
	s := set.Get(name)
	if s == nil {
		t.Fatalf("there is no scaffold %s", name)
	}
	return s.Apply(t.Context(), in)
}

// one applies a scaffold that changes one file, and returns what that is then.
func one(t testing.TB, name string, in *Input) string {
	t.Helper()
	changes, err := apply(t, name, in)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(changes) != 1 {
		t.Fatalf("%s: %d changes", name, len(changes))
	}
	return string(changes[0].Content)
}

func TestBundledScaffoldsAreValid(t *testing.T) {
	set, err := Bundled()
	if err != nil {
		t.Fatal(err)
	}
	if len(set.All()) != 10 || len(set.Notes()) != 0 {
		t.Errorf("%d scaffolds, notes %v", len(set.All()), set.Notes())
	}
}

func TestGoComments(t *testing.T) {
	tests := []struct{ name, symbol, before, after string }{
		{
			"function", "Open",
			"package p\n\nfunc Open(name string, flags ...int) (*File, error) {\n\treturn nil, ErrClosed\n}\n",
			"package p\n\n// Open takes name (string) and flags (...int) and returns *File, and an error.\n//\n// The last parameter may be given any number of times. Among the errors that it\n// returns is ErrClosed.\nfunc Open(name string, flags ...int) (*File, error) {\n\treturn nil, ErrClosed\n}\n",
		},
		{
			"method with a directive, in CRLF", "List.Push",
			"package p\r\n\r\n//go:noinline\r\nfunc (l *List[T]) Push(v T) {\r\n}\r\n",
			"package p\r\n\r\n// Push is a method of *List[T] that takes v (T) and returns nothing.\r\n//\r\n//go:noinline\r\nfunc (l *List[T]) Push(v T) {\r\n}\r\n",
		},
		{
			"deprecated", "F",
			"package p\n\n// Deprecated: use G.\nfunc F() {}\n",
			"package p\n\n// F takes no parameters and returns nothing.\n//\n// Deprecated: use G.\nfunc F() {}\n",
		},
		{
			"group", "A",
			"package p\n\nconst (\n\tA = 1\n\t// B is.\n\tB = 2\n\tc = 3\n)\n",
			"package p\n\n// A and the constants declared with it form one group: A and B.\nconst (\n\tA = 1\n\t// B is.\n\tB = 2\n\tc = 3\n)\n",
		},
		{
			"type in a group", "T",
			"package p\n\ntype (\n\tS int\n\tT struct{ A, b int }\n)\n",
			"package p\n\ntype (\n\tS int\n\t// T is a struct with the exported field A.\n\tT struct{ A, b int }\n)\n",
		},
		{
			"several on one line", "B",
			"package p; type A int; type B = string",
			"package p; type A int; \n// B is an alias of string.\ntype B = string",
		},
		{
			"variable", "Default",
			"package p\n\nvar Default Client\n",
			"package p\n\n// Default is a variable of type Client.\nvar Default Client\n",
		},
		{
			"interface", "I",
			"package p\n\ntype I[K comparable] interface {\n\tio.Reader\n\tGet(K) int\n}\n",
			"package p\n\n// I is an interface with the exported method Get, which embeds io.Reader.\n//\n// Its type parameter is K (comparable).\ntype I[K comparable] interface {\n\tio.Reader\n\tGet(K) int\n}\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &Input{Tree: MapTree{"a/a.go": []byte(tt.before)}, Gap: Gap{Rule: "docs.go.exported", Path: "a/a.go", Symbol: tt.symbol}}
			if got := one(t, "go-doc", in); got != tt.after {
				t.Errorf("got\n%s\nwant\n%s", got, tt.after)
			}
			in.Tree = MapTree{"a/a.go": []byte(tt.after)}
			if _, err := apply(t, "go-doc", in); !errors.Is(err, ErrNothing) {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

// A comment that would be a gap of its own is not written.
func TestMarkersAreRefused(t *testing.T) {
	_, err := apply(t, "go-doc", &Input{
		Tree: MapTree{"a.go": []byte("package p\n\nfunc TODO() {}\n")}, Gap: Gap{Rule: "docs.go.exported", Path: "a.go", Symbol: "TODO"},
	})
	var refusal *RefusedError
	if !errors.As(err, &refusal) {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestGoPackageComments(t *testing.T) {
	tests := []struct{ name, before, after string }{
		{"plain", "package p\n\nfunc F() {}\n", "// Package p declares the function F.\npackage p\n\nfunc F() {}\n"},
		{"build constraint", "//go:build linux\n\npackage p\n", "//go:build linux\n\n// Package p exports no symbols. It holds a.go.\npackage p\n"},
		{"licence above", "// Copyright.\n\npackage p\n\ntype T int\n", "// Copyright.\n\n// Package p declares the type T.\npackage p\n\ntype T int\n"},
		{"constraint directly above", "//go:build linux\npackage p\n", "//go:build linux\n\n// Package p exports no symbols. It holds a.go.\npackage p\n"},
		{"byte order mark", "\ufeffpackage p\n", "\ufeff// Package p exports no symbols. It holds a.go.\npackage p\n"},
		{"command", "package main\n\nfunc main() {}\n", "// Command tool is built from a.go.\npackage main\n\nfunc main() {}\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &Input{Tree: MapTree{"tool/a.go": []byte(tt.before)}, Gap: Gap{Rule: "docs.go.package", Path: "tool/a.go"}}
			if got := one(t, "go-package", in); got != tt.after {
				t.Errorf("got\n%s\nwant\n%s", got, tt.after)
			}
		})
	}
	in := &Input{
		Tree: MapTree{"a.go": []byte("package p\n")}, Gap: Gap{Rule: "docs.go.package", Path: "a.go"}, Parameters: map[string]any{"separate": true},
	}
	if got, want := one(t, "go-package", in), "// Package p exports no symbols. It holds a.go.\npackage p\n"; got != want {
		t.Errorf("doc.go: got %q, want %q", got, want)
	}
}

func TestPythonDocstrings(t *testing.T) {
	tests := []struct{ name, symbol, before, after string }{
		{
			"function", "f",
			"@cache\nasync def f(a, b: int = 3, *args: str, **kw) -> dict[str, int]:  # why\n    # body\n    raise ValueError(a)\n",
			"@cache\nasync def f(a, b: int = 3, *args: str, **kw) -> dict[str, int]:  # why\n    \"\"\"f is a coroutine that takes 4 parameters.\n\n    Args:\n        a: Required.\n        b (int): Optional; the default is 3.\n        *args (str): Further positional arguments.\n        **kw: Further keyword arguments.\n\n    Returns:\n        dict[str, int]\n\n    Raises:\n        ValueError: Raised by its body.\n    \"\"\"\n    # body\n    raise ValueError(a)\n",
		},
		{"on one line", "f", "def f(): pass\n", "def f():\n    \"\"\"f takes no parameters.\"\"\"\n    pass\n"},
		{"on one line, with tabs and more", "C.f", "class C:\n\tdef f(self): return 1; x = 2 # c\n", "class C:\n\tdef f(self):\n\t\t\"\"\"f takes no parameters and returns a value.\"\"\"\n\t\treturn 1; x = 2 # c\n"},
		{"blank one", "f", "def f():\n  \"\"\"  \"\"\"\n", "def f():\n  \"\"\"f takes no parameters.\"\"\"\n"},
		{"single quotes, CRLF", "g", "def f():\r\n  '''F.'''\r\ndef g():\r\n  pass\r\n", "def f():\r\n  '''F.'''\r\ndef g():\r\n  '''g takes no parameters.'''\r\n  pass\r\n"},
		{"class", "C", "class C(Base, metaclass=M):\n    x: int = 1\n\n    def m(self): ...\n", "class C(Base, metaclass=M):\n    \"\"\"C is a class derived from Base.\n\n    Attributes:\n        x\n\n    Methods:\n        m\n    \"\"\"\n    x: int = 1\n\n    def m(self): ...\n"},
		{"overloads", "f", "@overload\ndef f(a: int): ...\ndef f(a):\n    pass\n", "@overload\ndef f(a: int): ...\ndef f(a):\n    \"\"\"f takes 1 parameter.\n\n    Args:\n        a: Required.\n    \"\"\"\n    pass\n"},
		{"default with a lambda", "f", "def f(k=lambda a, b: a, *, n=1): pass\n", "def f(k=lambda a, b: a, *, n=1):\n    \"\"\"f takes 2 parameters.\n\n    Args:\n        k: Optional; the default is lambda a, b: a.\n        n: Optional; the default is 1.\n    \"\"\"\n    pass\n"},
		{"module", "", "#!/usr/bin/python\n# -*- coding: utf-8 -*-\n\nimport os\n\ndef f(): pass\n", "#!/usr/bin/python\n# -*- coding: utf-8 -*-\n\n\"\"\"The module a defines the function f.\"\"\"\n\nimport os\n\ndef f(): pass\n"},
		{"module without comment", "", "import os\n", "\"\"\"The module a defines no public class or function.\"\"\"\n\nimport os\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &Input{Tree: MapTree{"a.py": []byte(tt.before)}, Gap: Gap{Rule: "docs.python.function", Path: "a.py", Symbol: tt.symbol}}
			if tt.symbol == "" {
				in.Gap.Rule = "docs.python.module"
			}
			if got := one(t, "python-docstring", in); got != tt.after {
				t.Errorf("got\n%s\nwant\n%s", got, tt.after)
			}
		})
	}
}

func TestMarkdown(t *testing.T) {
	tree := MapTree{
		"docs/a.md":  []byte("# A\n[x](old/guide.md#set) `[x](old/guide.md#set)`\n```\n[x](old/guide.md#set)\n```\n[y]: old/guide.md#set\n"),
		"b/guide.md": []byte("# Guide\n## Set up *it*\n## Set-up, it!\n"), "b/n.txt": []byte("n"), "c/n.txt": []byte("moved"),
		"r.md": []byte("[n](z/n.txt) [h](b/guide.md#set-upit) [q](#nowhere-at-all)\n"),
	}
	tests := []struct {
		name, scaffold, path, target, want string
		previous                           map[string]string
	}{
		{"by name", "markdown-link", "docs/a.md", "old/guide.md#set", "# A\n[x](../b/guide.md#set) `[x](old/guide.md#set)`\n```\n[x](old/guide.md#set)\n```\n[y]: ../b/guide.md#set\n", nil},
		{"ambiguous", "markdown-link", "r.md", "z/n.txt", "", nil},
		{"by content", "markdown-link", "r.md", "z/n.txt", "[n](c/n.txt) [h](b/guide.md#set-upit) [q](#nowhere-at-all)\n", map[string]string{"z/n.txt": Hash([]byte("moved"))}},
		{"anchor", "markdown-anchor", "r.md", "b/guide.md#set-upit", "[n](z/n.txt) [h](b/guide.md#set-up-it) [q](#nowhere-at-all)\n", nil},
		{"no anchor like it", "markdown-anchor", "r.md", "#nowhere-at-all", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &Input{Tree: tree, Gap: Gap{
				Rule: "docs." + strings.ReplaceAll(tt.scaffold, "-", "."), Path: tt.path, Properties: map[string]string{"target": tt.target},
			}, Previous: tt.previous}
			changes, err := apply(t, tt.scaffold, in)
			var refusal *RefusedError
			if tt.want == "" {
				if !errors.As(err, &refusal) {
					t.Errorf("got %v, want a refusal", err)
				}
				return
			}
			if err != nil || string(changes[0].Content) != tt.want {
				t.Errorf("got %v, %s", err, changes)
			}
		})
	}
}

// A detector that names the link in its message only is understood.
func TestLinkOfMessage(t *testing.T) {
	tree := MapTree{"README.md": []byte("See `make`.\n\nSee [how](docs/count.md).\n"), "docs/guide/count.md": []byte("# Count\n")}
	in := &Input{Tree: tree, Gap: Gap{Rule: "docs.markdown.link", Path: "README.md", Message: "The link docs/count.md leads to no file or directory of the workspace."}}
	changes, err := apply(t, "markdown-link", in)
	if err != nil || len(changes) != 1 || !strings.Contains(string(changes[0].Content), "(docs/guide/count.md)") {
		t.Errorf("%v, %s", err, changes)
	}
}

func TestHeaderErrors(t *testing.T) {
	header := func(lines string) string {
		return "scaffold \"x\" {\n  version = \"1.0.0\"\n  summary = \"s\"\n  place = \"readme\"\n" + lines + "}\ntext\n"
	}
	tests := []struct{ name, source, want string }{
		{"empty", "", "f:1:1: the header is missing"},
		{"unknown attribute", header("  colour = 1\n"), "f:5:3: Unsupported argument"},
		{"unknown place", strings.Replace(header(""), "readme", "moon", 1), "f:4:11: there is no place \"moon\""},
		{"version", strings.Replace(header(""), "1.0.0", "one", 1), "f:2:13: the version \"one\""},
		{"rule type", header("  rules = \"a\"\n"), "f:5:11: rules must be a list of strings"},
		{"pattern", header("  paths = [\"../x\"]\n"), "f:5:11: the pattern"},
		{"gap type", header("  gap_types = [\"nice\"]\n"), "f:5:15: gap_types: there is no \"nice\""},
		{"file elsewhere", header("  file = \"a\"\n"), "f:5:3: only the place"},
		{"parameter", header("  parameter \"n\" {\n    type = \"int\"\n    description = \"d\"\n  }\n"), "f:6:12: the type \"int\""},
		{"default", header("  parameter \"n\" {\n    type = \"number\"\n    description = \"d\"\n    default = \"1\"\n  }\n"), "f:8:15: default must be a number"},
		{"template", header("") + "{{.x", "f:7:"},
		{"function", header("") + "{{printf \"%d\" 1}}", "f:7:3: the function printf is not available"},
		{"define", header("") + "{{define \"a\"}}b{{end}}", "f:6:1: define, template and block"},
		{"step", header("") + "{{_step}}", "f:7:"},
		{"interpolation", header("  paths = [upper(\"a\")]\n"), "f:5:12:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f", []byte(tt.source))
			var e *HeaderError
			if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestTemplatesAreBounded(t *testing.T) {
	for name, body := range map[string]string{
		"turns":  "{{range 1000000000}}{{end}}",
		"nested": "{{range 10000}}{{range 10000}}{{end}}{{end}}",
		"output": "{{range 90000}}0123456789abcdef{{end}}",
		"growth": "{{$s := \"ab\"}}{{range 64}}{{$s = concat $s $s}}{{end}}",
		"quotes": "{{$s := \"\\\"\"}}{{range 64}}{{$s = quote $s}}{{end}}",
		"method": "{{.Gap.String}}",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse("f", []byte("scaffold \"x\" {\n  version = \"1.0.0\"\n  summary = \"s\"\n  place = \"readme\"\n}\n"+body))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Apply(t.Context(), &Input{Tree: MapTree{}, Gap: Gap{Path: "."}}); err == nil {
				t.Error("it ended without an error")
			}
		})
	}
}

func TestLoadOverrides(t *testing.T) {
	dir := t.TempDir()
	own := "scaffold \"readme\" {\n  version = \"2.0.0\"\n  summary = \"s\"\n  place = \"readme\"\n  rules = [\"docs.readme\"]\n}\nOurs.\n"
	for name, content := range map[string]string{"readme/" + FileName: own, "empty/x": ""} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Get("readme"); got.Version != "2.0.0" || len(set.Notes()) != 2 {
		t.Errorf("version %s, notes %q", got.Version, set.Notes())
	}
	if b, _ := Bundled(); b.Get("readme").Version != "1.0.0" {
		t.Error("the bundled set was modified")
	}
	if err := os.WriteFile(filepath.Join(dir, "readme", FileName), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	var e *HeaderError
	if _, err := Load(dir); !errors.As(err, &e) {
		t.Errorf("got %v, want where it is wrong", err)
	}
}

func TestSameBytes(t *testing.T) {
	files := MapTree{"go.mod": []byte("module example.com/x\n"), "package.json": []byte(`{"name":"x","scripts":{"b":"1","a":"2","c":"3"}}`)}
	for i := range 50 {
		files[fmt.Sprintf("d%d/f%d.go", i%7, i)] = []byte("package p\n")
		files[fmt.Sprintf("d%d/f%d.py", i%5, i)] = []byte("x = 1\n")
	}
	in := &Input{Tree: files, Gap: Gap{Rule: "docs.readme", Path: "."}}
	first := one(t, "readme", in)
	for range 100 {
		if got := one(t, "readme", in); got != first {
			t.Fatalf("got\n%s\nwant\n%s", got, first)
		}
	}
}
