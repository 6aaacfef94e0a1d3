// Package merge brings two edits of one text together, as git does: what only one
// side has changed is taken from it, and what both have changed in different ways
// is a conflict.
//
// It may be imported by patch, integration and startup. It imports nothing of ours
// but sdk, for errors.
package merge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/scratch"
	"github.com/sop-host/sop/sdk"
)

// ReasonNoGit says that there is no git to merge with.
const ReasonNoGit = "MERGE_NO_GIT"

// MaxSize bounds each of the texts, in bytes.
const MaxSize = 8 << 20

const timeout = 30 * time.Second

// ErrConflict says that both sides have changed the same lines, or that one of
// the texts is none.
var ErrConflict = errors.New("both have changed the same lines")

// Three returns ours with the change from base to theirs made in it. It leaves
// line endings as they are. The error is [ErrConflict] where that takes a person.
func Three(ctx context.Context, base, ours, theirs []byte) ([]byte, error) {
	switch {
	case bytes.Equal(base, ours), bytes.Equal(ours, theirs):
		return theirs, nil
	case bytes.Equal(base, theirs):
		return ours, nil
	case !isText(base), !isText(ours), !isText(theirs):
		return nil, fmt.Errorf("%w: it is not text, or over %d bytes", ErrConflict, MaxSize)
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, ReasonNoGit, "edits cannot be merged without git: %w", err).
			WithRemedy("install git on the host")
	}
	dir, err := scratch.New("merge")
	if err != nil {
		return nil, err
	}
	merged, err := mergeIn(ctx, git, dir.Path(), base, ours, theirs)
	return merged, errors.Join(err, dir.Close())
}

func mergeIn(ctx context.Context, git, dir string, base, ours, theirs []byte) ([]byte, error) {
	for name, text := range map[string][]byte{"base": base, "ours": ours, "theirs": theirs} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, git, "merge-file", "-p", "-q", "ours", "base", "theirs")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CEILING_DIRECTORIES=" + filepath.Dir(dir)}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	merged, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return merged, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &exit) && exit.ExitCode() > 0 && exit.ExitCode() < 128:
		return nil, ErrConflict
	}
	return nil, fmt.Errorf("git merge-file: %w: %.200s", err, bytes.TrimSpace(stderr.Bytes()))
}

func isText(text []byte) bool {
	return len(text) <= MaxSize && utf8.Valid(text) && bytes.IndexByte(text, 0) < 0
}
