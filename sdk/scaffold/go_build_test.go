package scaffold

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Go is found beside its command, and the lack of it is told.
func TestGoRoot(t *testing.T) {
	want, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip(err)
	}
	command := filepath.Join(strings.TrimSpace(string(want)), "bin", "go")
	dir := t.TempDir()
	if err := os.Symlink(command, filepath.Join(dir, "go")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	root, err := goRoot()
	if err != nil {
		t.Fatal(err)
	}
	if real, err := filepath.EvalSymlinks(strings.TrimSpace(string(want))); err != nil || root != real {
		t.Errorf("%s, want %s (%v)", root, real, err)
	}
	t.Setenv("PATH", t.TempDir())
	if root, err := goRoot(); err == nil {
		t.Errorf("without a go command it is in %s", root)
	}
}
