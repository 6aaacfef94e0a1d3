package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// TestTrees scans every tree under testdata: an archive of files whose comment
// lists what is expected, a line each, as [describe] writes it.
func TestTrees(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal("no trees", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			for _, f := range archive.Files {
				write(t, root, f.Name, f.Data)
			}
			got := strings.Join(describe(scan(t, newCode(), root)), "\n") + "\n"
			if want := string(archive.Comment); strings.TrimSpace(got) != strings.TrimSpace(want) {
				if os.Getenv("SOP_UPDATE") != "" {
					archive.Comment = []byte(got + "\n")
					if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func write(t testing.TB, root, name string, data []byte) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// describe writes what a scan said, in order.
func describe(r *reply) []string {
	var out []string
	for _, f := range r.findings {
		l := f.GetLocation()
		severity := strings.ToLower(strings.TrimPrefix(f.GetSeverity().String(), "SEVERITY_"))
		out = append(out, strings.TrimRight(fmt.Sprintf("%s:%d %s %s [%s] %s", l.GetPath(), l.GetLine(), f.GetRule(), severity, l.GetSymbol(), f.GetMessage()), " "))
	}
	for _, d := range r.diagnostics {
		out = append(out, fmt.Sprintf("%s:%d %s %s", d.GetPath(), d.GetLine(), d.GetReason(), d.GetMessage()))
		if r.covered[d.GetPath()] {
			out = append(out, d.GetPath()+" is covered in spite of that")
		}
	}
	for reason, n := range r.summary.GetSkipped() {
		out = append(out, fmt.Sprintf("~ skipped %s %d", reason, n))
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(sortKey(a), sortKey(b)) })
	return out
}

// sortKey pads the line number.
func sortKey(s string) string {
	path, rest, ok := strings.Cut(s, ":")
	if !ok {
		return s
	}
	number, rest, _ := strings.Cut(rest, " ")
	return fmt.Sprintf("%s:%6s %s", path, number, rest)
}

func TestConfigure(t *testing.T) {
	for _, c := range []struct {
		block block
		want  string
	}{
		{block{ComplexityLimit: 20, Markers: []string{"TODO", "BUG"}}, ""},
		{block{ComplexityLimit: 1}, ""},
		{block{ComplexityLimit: 0}, "complexity_limit: 0 is no complexity that a function can have"},
		{block{ComplexityLimit: 2.5}, "complexity_limit: 2.5 is no complexity that a function can have"},
		{block{ComplexityLimit: 3, Markers: []string{"todo", "A B", "TODO", "TODO"}}, "markers: \"todo\" is no marker\nmarkers: \"A B\" is no marker\nmarkers: \"TODO\" stands twice"},
	} {
		_, err := c.block.settings()
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.block, got, c.want)
		}
	}
}

func TestSettingsApply(t *testing.T) {
	set, err := (&block{ComplexityLimit: 2, Markers: []string{"BUG"}, Tests: true}).settings()
	if err != nil {
		t.Fatal(err)
	}
	d := newCode()
	d.settings.Store(set)
	root := t.TempDir()
	write(t, root, "a_test.go", []byte("package a\n\n// BUG: x\n// TODO: y\nfunc f(a, b bool) {\n\tif a && b {\n\t}\n}\n"))
	got := describe(scan(t, d, root))
	want := []string{
		"a_test.go:3 code.marker low [f] BUG in a comment: x",
		"a_test.go:5 code.complexity low [f] The function f has a cyclomatic complexity of 3; the limit is 2.",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestRulesAreComplete(t *testing.T) {
	for _, r := range rules {
		if r.GetVersion() == "" || r.GetSummary() == "" || r.GetType() == pluginv1.GapType_GAP_TYPE_UNSPECIFIED || r.GetDefaultSeverity() == pluginv1.Severity_SEVERITY_UNSPECIFIED {
			t.Errorf("%+v", r)
		}
	}
}
