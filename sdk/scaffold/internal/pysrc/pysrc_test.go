package pysrc

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestDefinitions(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"signature", "def f(a, /, b: int = 1, *c, d: 'x' = (1, 2), **e) -> g[h]: pass\n", "f(a,b:int=1,*c,d:'x'=(1, 2),**e)->g[h]"},
		{"lambda", "def f(k=lambda a, b: (a, b), *, n): pass\n", "f(k=lambda a, b: (a, b),n)"},
		{"nested", "class A:\n  def b(self):\n    def c(): raise E\n    raise F.G(1)\n", "A A.b(self)!F.G A.b.c()!E"},
		{"strings", "x = f\"{a['b']!r:>{w}} {{\"\ny = '''\ndef no(): pass\n'''\ndef f(): yield 1\n", "f()~"},
		{"nested quotes", "x = f\"{a[\"b\"]}\"\ndef f(): return 1\n", "f()="},
		{"joined lines", "def f(a, \\\n  b):\n  return \\\n a\n", "f(a,b)="},
		{"type parameters", "def f[T: (int, str)](a: T): pass\nclass C[T](B[T]): x: T\n", "f(a:T) C"},
		{"annotation with a default in it", "def f(a: X(y=1) = 2): pass\n", "f(a:X(y=1)=2)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse([]byte(tt.src))
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, d := range f.Defs {
				all = append(all, show(d))
			}
			if got := strings.Join(all, " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// show writes a definition with what its body does.
func show(d *Def) string {
	if d.Class {
		return d.Qualified
	}
	var params []string
	for _, p := range d.Parameters {
		s := p.Name
		if p.Annotation != "" {
			s += ":" + p.Annotation
		}
		if p.Default != "" {
			s += "=" + p.Default
		}
		params = append(params, s)
	}
	out := fmt.Sprintf("%s(%s)", d.Qualified, strings.Join(params, ","))
	if d.Returns != "" {
		out += "->" + d.Returns
	}
	for _, r := range d.Raises {
		out += "!" + r
	}
	if d.Yields {
		out += "~"
	}
	if d.ReturnsValue {
		out += "="
	}
	return out
}

func TestSyntaxErrors(t *testing.T) {
	for src, line := range map[string]int{
		"x = 'a\n": 1, "x = (1\n": 2, "def f()\n": 1, "def f():\nx = 1\n": 2, "def f():\n": 1, "x = ]\n": 1, "a\rb": 1, "x = '''\n": 2,
	} {
		_, err := Parse([]byte(src))
		var e *SyntaxError
		if !errors.As(err, &e) || e.Line != line {
			t.Errorf("%q: got %v, want an error in line %d", src, err, line)
		}
	}
}
