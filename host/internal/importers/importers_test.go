package importers

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/workspace"
)

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func count(t *testing.T, c *Counter, root string) map[string]int {
	t.Helper()
	m, err := workspace.Walk(t.Context(), root, workspace.Options{})
	if err != nil {
		t.Fatal(err)
	}
	counts, err := c.Count(t.Context(), root, m.Files)
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

func TestCount(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"go.mod":              "module example.com/m\n",
		"main.go":             "package main\n\nimport (\n\t\"fmt\"\n\t\"example.com/m/a\"\n)\n\nfunc main() { broken",
		"a/a.go":              "package a\n\nimport \"example.com/m/b\"\n",
		"a/a_test.go":         "package a_test\n\nimport (\n\t\"example.com/m/a\"\n\t\"example.com/m/b/c\"\n)\n",
		"b/b.go":              "package b\n",
		"b/b_other.go":        "package b\n\nimport \"example.com/m/b/c\"\n",
		"b/c/c.go":            "package c\n",
		"b/testdata/x/x.go":   "package x\n\nimport \"example.com/m/b\"\n",
		"tool/go.mod":         "module example.com/tool // another\n",
		"tool/tool.go":        "package main\n\nimport \"example.com/m/b\"\n",
		"vendor/v/v.go":       "package v\n\nimport \"example.com/m/b\"\n",
		"no.go":               "this is no Go\n",
		"docs/not Go.txt":     "import \"example.com/m/b\"\n",
		"lonely/only_test.go": "package lonely\n\nimport \"example.com/m/b\"\n",
	})
	c := new(Counter)
	want := map[string]int{".": 0, "a": 1, "b": 3, "b/c": 2, "tool": 0, "lonely": 0}
	if got := count(t, c, root); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	// Only what has changed is read again.
	write(t, root, map[string]string{"main.go": "package main\n\nimport \"example.com/m/b/c\"\n"})
	want["a"], want["b/c"] = 0, 3
	if got := count(t, c, root); !maps.Equal(got, want) {
		t.Errorf("after an edit %v, want %v", got, want)
	}
	if err := os.Remove(filepath.Join(root, "b/b_other.go")); err != nil {
		t.Fatal(err)
	}
	want["b/c"] = 2
	if got := count(t, c, root); !maps.Equal(got, want) {
		t.Errorf("after a removal %v, want %v", got, want)
	}
}

func TestStandardLibrary(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"src/go.mod": "module std\n", "src/fmt/fmt.go": "package fmt\n\nimport \"io\"\n", "src/io/io.go": "package io\n",
	})
	if got, want := count(t, new(Counter), root), map[string]int{"src/fmt": 0, "src/io": 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// BenchmarkCount measures the tree of Go, some eight thousand files: all of it, and
// once more when nothing has changed.
func BenchmarkCount(b *testing.B) {
	root := filepath.Join(os.Getenv("GOROOT"), "src")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		b.Skip("GOROOT names no tree of Go")
	}
	m, err := workspace.Walk(b.Context(), root, workspace.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c := new(Counter)
		if _, err := c.Count(b.Context(), root, m.Files); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if _, err := c.Count(b.Context(), root, m.Files); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds()), "µs/unchanged")
		b.ReportMetric(float64(len(m.Files)), "files")
	}
}
