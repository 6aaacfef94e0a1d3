package integration

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/sop-host/sop/host/internal/scratch"
)

// unpackTimeout bounds the writing of all files of a commit.
const unpackTimeout = 10 * time.Minute

// unpacked calls fn with a directory that holds what a commit has of the workspace,
// as a checkout would have it, and that is removed afterwards. Work tree and index
// are not touched.
func (r *repository) unpacked(ctx context.Context, commit string, fn func(tree string) error) (err error) {
	place, err := scratch.New("commit")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.Close()) }()
	top := place.Join("tree")
	tree := filepath.Join(top, r.prefix)
	if err := os.MkdirAll(tree, 0o755); err != nil { //nolint:gosec // beneath a directory that is closed; in a sandbox it is looked at by another user
		return err
	}
	for dir := tree; dir != filepath.Dir(place.Path()); dir = filepath.Dir(dir) {
		if err := r.chown(dir); err != nil {
			return err
		}
	}
	index := []string{"GIT_INDEX_FILE=" + place.Join("index")}
	if _, err := r.run(ctx, nil, index, "read-tree", commit); err != nil {
		return gitFailed(err)
	}
	list := []string{"ls-files", "-z"}
	if r.prefix != "" {
		list = append(list, "--", r.prefix)
	}
	names, err := r.run(ctx, nil, index, list...)
	if err != nil {
		return gitFailed(err)
	}
	if _, err := r.runFor(ctx, unpackTimeout, bytes.NewReader(names), index, "checkout-index", "--prefix="+top+"/", "-z", "--stdin"); err != nil {
		return gitFailed(err)
	}
	return fn(tree)
}
