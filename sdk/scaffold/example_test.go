package scaffold

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every bundled scaffold has an example, and all of them hold.
func TestExamplesHold(t *testing.T) {
	set, err := Bundled()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range set.All() {
		verdicts := s.Test(t.Context())
		if len(verdicts) == 0 {
			t.Errorf("%s has no example", s.Name)
		}
		for _, v := range verdicts {
			if v.Problem != "" {
				t.Errorf("%s: %s: %s", s.Name, v.Example, v.Problem)
			}
		}
	}
}

func TestNewScaffoldHolds(t *testing.T) {
	files, err := New("my-pages")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if v := s.Test(t.Context()); len(v) != 1 || v[0].Problem != "" {
		t.Errorf("got %v", v)
	}
	broken := strings.Replace(string(files["first.txtar"]), "* `cmd`", "* `other`", 1)
	if err := os.WriteFile(filepath.Join(dir, "first.txtar"), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = LoadDir(dir); err != nil {
		t.Fatal(err)
	}
	if v := s.Test(t.Context()); !strings.Contains(v[0].Problem, "docs/tree.md differs from want/ at line 3") {
		t.Errorf("got %v", v)
	}
	if _, err := New("../x"); err == nil {
		t.Error("a name that leads elsewhere is accepted")
	}
}
