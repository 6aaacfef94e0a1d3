package main

import (
	"slices"
	"testing"
)

func TestPython(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"a.py": `import x

class A:
    def f(self): ...
    def __init__(self): pass
    def __len__(self): return 0
    def _g(self): pass
    @property
    def p(self):
        "Doc."
    @p.setter
    def p(self, v): pass
    class B:
        async def h(self): pass

class _C:
    def f(self): pass

@overload
def o(x: int): ...
def o(x):
    """   """
def documented():
    r'''Doc.'''
    def nested(): pass
    class Local:
        def f(self): pass
if True:
    def g(): pass
`,
		"pkg/__init__.py":  "\n",
		"pkg/other.py":     "'Doc.'\n",
		"pkg2/__init__.py": "import a\n",
		"_private.py":      "def f(): pass\n",
		"_pkg/a.py":        "def f(): pass\n",
		"__main__.py":      "f()\n",
		"setup.py":         "setup()\n",
		"test_a.py":        "def f(): pass\n",
		"tests/a.py":       "def f(): pass\n",
		"conftest.py":      "def f(): pass\n",
		"b/testdata/a.py":  "def f(): pass\n",
		"types.pyi":        "def f(): ...\n",
		"broken.py":        "def f(:\n",
	})
	h := newHost(t, root, nil)
	r := h.scan(t, rulePythonModule, rulePythonClass, rulePythonFunction)
	want := []string{
		"__main__.py:1 docs.python.module __main__",
		"a.py:1 docs.python.module a",
		"a.py:13 docs.python.class A.B",
		"a.py:14 docs.python.function A.B.h",
		"a.py:21 docs.python.function o",
		"a.py:29 docs.python.function g",
		"a.py:3 docs.python.class A",
		"a.py:4 docs.python.function A.f",
		"pkg2/__init__.py:1 docs.python.module pkg2",
	}
	if got := h.open(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if len(r.diagnostics) != 1 || r.diagnostics[0].GetPath() != "broken.py" || r.diagnostics[0].GetReason() != "PARSE_ERROR" || r.diagnostics[0].GetLine() != 1 {
		t.Errorf("diagnostics %v", r.diagnostics)
	}
	if r.covered["broken.py"] || !r.covered["a.py"] || r.summary.GetSkipped()["testdata"] != 1 {
		t.Errorf("covered %v, skipped %v", r.covered, r.summary.GetSkipped())
	}
}
