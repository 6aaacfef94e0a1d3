package python

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSyntax reads what newer Pythons have brought, both ways.
func TestSyntax(t *testing.T) {
	for _, c := range []struct {
		name, src string
		defs      string // qualified names
		points    int    // complexity of the first definition
		outline   bool
	}{
		{"type parameters", "def f[T: (int, str), *Ts, **P](x: T) -> T:\n    return x\nclass A[T](Base[T]): pass\ntype L[T] = list[T]\n", "f A", 1, true},
		{"nested quotes in f-string", "def f(x):\n    return f'{x['a'] if x else f'{x!r:>{10}}'}'\n", "f", 2, true},
		{"f-string over lines", "def f(x):\n    return f'''{\n        x  # why\n        or 1\n    }'''\n", "f", 2, true},
		{"f-string specification", "def f(x):\n    return f'{x:%H:%M} {x=} {x = !r} {{}} \\N{BULLET} {x:{\"a\" if x else \"b\"}}'\n", "f", 2, true},
		{"match", "def f(x):\n    match x:\n        case {'a': 1, **rest} if rest: pass\n        case [1, *_] | None:\n            pass\n        case _: pass\n", "f", 5, true},
		{"soft keywords as names", "def f(match, case, type):\n    match = case\n    match(case)\n    type = type(match)\n    match[0].x = 1\n    print(match, type)\n", "f", 1, true},
		{"walrus", "def f(x):\n    while (n := next(x)) and n: print(n)\n    [y := 1, y ** 2]\n", "f", 3, true},
		{"async", "async def f(x):\n    async with x as y, z: pass\n    async for a in x: pass\n    return [a async for a in x if await a]\n", "f", 4, true},
		{"except star", "def f():\n    try: pass\n    except* (A, B) as e: pass\n    except *C: pass\n    finally: pass\n", "f", 3, true},
		{"lambda in header", "def f(x=lambda a, /, *b: a if a else b, *, y: int = 3) -> (lambda: 1): return lambda: 1 or 2\n", "f", 2, true},
		{"semicolons", "def f(): 'doc'; pass; return 1 if 2 else 3\nclass A: x = 1; y: int = 2\n", "f A", 2, true},
		{"joined lines", "def f(a, \\\n      b): \\\n    return a and \\\n  b\nif 1: \\\n  pass\n", "f", 2, true},
		{"comment between", "class A:\n# x\n  # y\n    def f(self): # z\n        # w\n        pass\n# end\n", "A A.f", 0, true},
		{"numbers before keywords", "def f(x): return 1if x else 0xfor x or 1_0.e-3_0j\n", "f", 4, true},
		{"decorators", "@a.b\n@c(1)(2)\n\n# x\n@(d)\nasync def f(): ...\n", "f", 1, true},
		{"relative import", "from . import a\nfrom .. import b\nfrom ...c import d\nfrom .... import e\ndef f(): pass\n", "f", 1, true},
		{"carriage returns", "def f():\r\n    '''doc\r\n    '''\r\n    return 'a\\\r\nb'\r\n", "f", 1, true},
		{"byte order mark", "\ufeffdef f(): pass\n", "f", 1, true},
		{"form feed", "\fdef f():\n\f    pass\n", "f", 1, true},
		{"no last line end", "class A:\n    def f(self): return 1", "A A.f", 0, true},
		{"empty", "", "", 0, true},
		{"template string", "def f(x): return t'{x if x else 1}'\n", "f", 2, true},
		{"except without brackets", "def f():\n    try: pass\n    except A, B: pass\n", "f", 2, true},
		{"docstring in brackets", "def f():\n    ('doc')\n", "f", 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := outline([]byte(c.src))
			if sure := err == nil; sure != c.outline {
				t.Fatalf("outline: %v, want no doubt: %v", err, c.outline)
			}
			f, err := parse(context.Background(), []byte(c.src))
			if err != nil {
				t.Errorf("grammar: %v", err)
			}
			for _, f := range []*File{o, f} {
				if f == nil {
					continue
				}
				names := make([]string, 0, len(f.Defs))
				for _, d := range f.Defs {
					names = append(names, d.Qualified)
				}
				if got := strings.Join(names, " "); got != c.defs {
					t.Errorf("definitions %q, want %q", got, c.defs)
				}
				if len(f.Defs) > 0 && f.Defs[0].Complexity != c.points {
					t.Errorf("complexity %d, want %d", f.Defs[0].Complexity, c.points)
				}
			}
			if o != nil && f != nil && !slices.Equal(linesOf(f), linesOf(o)) {
				t.Errorf("grammar %q\noutline %q", linesOf(f), linesOf(o))
			}
		})
	}
}

// TestBroken holds what is no Python: the outline must see it, and the grammar
// say where.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		src  string
		line int
	}{
		{"def f(:\n    pass\n", 1},
		{"x = 1\ndef f()\n    pass\n", 2},
		{"def f():\n    return (1, 2\n\ndef g():\n    pass\n", 0},
		{"def f():\n    x = = 1\n", 2},
		{"x = 1\nthis is no python at all\n", 2},
		{"class :\n    pass\n", 1},
		{"def f():\n    s = 'abc\n    return s\n", 2},
		{"if x:\npass\n", 0},
		{"x = f'{'\n", 0},
		{"x = )\n", 1},
		{"x = 1 +\n", 0},
		{"for in range(3): pass\n", 1},
		{"<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> other\n", 1},
		{"def f():\n        x = 1\n    y = 2\n", 0},
		{"@decorator\nx = 1\n", 0},
		{"x = 'a' 5\n", 0},
		{"a b\n", 0},
		{"'''\n", 0},
	} {
		_, err := Outline(context.Background(), []byte(c.src))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%q: %v, want a syntax error", c.src, err)
		} else if c.line > 0 && syntax.Line != c.line {
			t.Errorf("%q: line %d, want %d", c.src, syntax.Line, c.line)
		}
	}
}

func TestEnclosing(t *testing.T) {
	f, err := outline([]byte("class A:\n    x = 1\n    def f(self):\n        pass\n\n    y = 2\nz = 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "A", "A", "A.f", "A.f", "A", "A", ""}
	for line := 1; line <= 7; line++ {
		got := ""
		if d := f.Enclosing(line); d != nil {
			got = d.Qualified
		}
		if got != want[line] && line != 5 {
			t.Errorf("line %d is in %q, want %q", line, got, want[line])
		}
	}
}

// TestPathological bounds what a hostile file can cost.
func TestPathological(t *testing.T) {
	n := 200_000
	for name, src := range map[string]string{
		"open brackets":  strings.Repeat("(", n),
		"f-strings":      strings.Repeat("f'{", n),
		"f-string quote": strings.Repeat("f\"{f'{", n),
		"blocks":         deepBlocks(3000),
		"operators":      "x = " + strings.Repeat("a+", n) + "a\n",
		"lambdas":        "x = " + strings.Repeat("lambda:", n) + "1\n",
		"backslashes":    strings.Repeat("\\\n", n),
		"decorators":     strings.Repeat("@a\n", n),
		"triple":         strings.Repeat("'''", n) + "'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, doubt := outline([]byte(src))
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("outline took %v", d)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			_, err := parse(ctx, []byte(src))
			if d := time.Since(start); d > 30*time.Second {
				t.Errorf("the grammar took %v", d)
			}
			t.Logf("outline: %v, grammar: %v, %v", doubt, err, time.Since(start))
		})
	}
}

func deepBlocks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "if x:\n")
	}
	b.WriteString(strings.Repeat(" ", n) + "pass\n")
	return b.String()
}

// FuzzOutline looks for a file on which the outline panics, hangs or answers
// nonsense.
func FuzzOutline(f *testing.F) {
	for _, src := range []string{
		"def f(x): return f'{x!r:>{10}}'\n", "class A(B, metaclass=C):\n    '''doc'''\n", "@a.b(c)\nasync def f(): ...\n",
		"match x:\n    case 1: pass\n", "if TYPE_CHECKING:\n\tdef f(): pass\n", "x = \\\n  1\n", "f'''{\n}'''", "\xef\xbb\xbf'''",
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := outline(src)
		if err != nil {
			return
		}
		lines := 1 + bytes.Count(src, []byte("\n"))
		for i, d := range file.Defs {
			if d.Line < 1 || d.EndLine < d.Line || d.EndLine > lines || d.Parent >= i || d.Doc.EndLine > d.EndLine {
				t.Fatalf("%+v of %d lines", d, lines)
			}
		}
		for _, c := range file.Comments {
			if src[c.Start] != '#' || c.End > len(src) || bytes.ContainsRune(src[c.Start:c.End], '\n') {
				t.Fatalf("%+v", c)
			}
		}
	})
}

// sources returns files of the corpus, at most limit bytes of them.
func sources(b *testing.B, limit int) (all [][]byte, size int) {
	b.Helper()
	paths := corpus(b)
	for i := 0; i < len(paths) && size < limit; i += 7 {
		src, err := os.ReadFile(paths[i])
		if err != nil {
			b.Fatal(err)
		}
		all, size = append(all, src), size+len(src)
	}
	return all, size
}

func BenchmarkOutline(b *testing.B) {
	all, size := sources(b, 4<<20)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		for _, src := range all {
			_, _ = outline(src)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	all, size := sources(b, 4<<20)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		for _, src := range all {
			_, _ = parse(context.Background(), src)
		}
	}
}
