package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"go/build"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
)

// findGo says where the packages of the standard library are, for who imports
// them: a program that was built without the paths of its machine does not know.
var findGo = sync.OnceValue(func() error {
	if build.Default.GOROOT != "" {
		return nil
	}
	root, err := goRoot()
	build.Default.GOROOT = root
	return err
})

// goRoot is where the go command of the path lies, by way of links.
func goRoot() (string, error) {
	command, err := exec.LookPath("go")
	if err == nil {
		command, err = filepath.EvalSymlinks(command)
	}
	if err != nil {
		return "", fmt.Errorf("its types cannot be checked without Go: %w", err)
	}
	root := filepath.Dir(filepath.Dir(command))
	if _, err := os.Stat(filepath.Join(root, "src", "testing")); err != nil {
		return "", errors.Join(fmt.Errorf("its types cannot be checked: %s is not of a whole Go", command), err)
	}
	return root, nil
}

// buildable says whether the Go file base in dir is built on this machine.
func buildable(t Tree, dir, base string) bool {
	content, err := t.Read(path.Join(dir, base))
	if err != nil {
		return false
	}
	ctx := build.Default
	ctx.CgoEnabled = false
	ctx.OpenFile = func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	ok, err := ctx.MatchFile(dir, base)
	return ok && err == nil
}
