package scaffold

import (
	"bytes"
	"go/build"
	"io"
	"path"
)

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
