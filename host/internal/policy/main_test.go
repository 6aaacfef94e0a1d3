package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a directory with files, by name.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "policies")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustParse(t testing.TB, text string) *Set {
	t.Helper()
	set, diags := Parse("test", []File{{Name: "test.cedar", Text: []byte(text)}})
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	return set
}

// show writes diagnostics with carets, as a terminal would.
func show(diags Diagnostics) string {
	var b strings.Builder
	for _, d := range diags {
		b.WriteString(d.String() + "\n")
		if d.Line == 0 {
			continue
		}
		width := max(1, d.EndColumn-d.Column)
		if d.EndLine > d.Line {
			width = max(1, len([]rune(d.Snippet))-d.Column+1)
		}
		b.WriteString("  | " + d.Snippet + "\n  | " + strings.Repeat(" ", d.Column-1) + strings.Repeat("^", width) + "\n")
	}
	return b.String()
}
