package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/host/internal/scratch"
)

// prepare makes the private copy that stands in for an overlay at the levels
// without namespaces. A workspace that cannot be copied is a refusal.
func (a *attempt) prepare(ctx context.Context) (refused bool, err error) {
	a.own = builtPlaces
	if a.spec.Profile.Level != LevelLandlock && a.spec.Profile.Level != LevelNone {
		return false, nil
	}
	if a.out.private, err = scratch.New("private"); err != nil {
		a.refuse("private copy", err)
		return true, nil
	}
	in := func(name string) string { return a.out.private.Join(name) }
	a.own = Places{in("workspace"), in("home"), in("tmp"), in("sockets")}
	if err := a.copyWorkspace(ctx); err != nil {
		if ctx.Err() != nil {
			a.out.Status = Canceled
			return true, nil //nolint:nilerr // it is somebody else's
		}
		a.refuse("private copy", err)
		return true, nil
	}
	if err := a.patchCopy(); err != nil {
		a.refuse("patch", err)
		return true, nil
	}
	a.out.upper, err = os.Open(a.own.Workspace)
	a.out.Notes = append(a.out.Notes, "without namespaces: disk space and inodes are not bounded together, nor is memory")
	return false, err
}

// refuse says that the host itself could not take a step.
func (a *attempt) refuse(stage string, err error) {
	a.out.Refusal = &Refusal{Stage: stage, Detail: err.Error()}
	errors.As(err, &a.out.Refusal.Errno)
}

func (a *attempt) copyWorkspace(ctx context.Context) (err error) {
	if a.spec.Service != nil && len(a.own.Sockets) > maxSocketsDir {
		return fmt.Errorf("%s: too long for the address of a socket: set TMPDIR: %w", a.own.Sockets, syscall.ENAMETOOLONG)
	}
	// Another id is to pass through, and see nothing.
	if err := os.Chmod(a.out.private.Path(), 0o711); err != nil { //nolint:gosec // see above
		return err
	}
	for _, dir := range []string{a.own.Workspace, a.own.Home, a.own.Temp, a.own.Sockets} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := giveAway(dir); err != nil {
			return err
		}
	}
	to, err := os.OpenRoot(a.own.Workspace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	c := copier{from: a.out.workspace, to: to, dir: a.own.Workspace, left: a.spec.Profile.Limits.DiskBytes, entries: a.spec.Profile.Limits.Inodes}
	return fs.WalkDir(a.out.workspace.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return c.entry(name, entry, err)
	})
}

// giveAway makes what root has made the sandbox's own.
func giveAway(path string) error {
	if !isRoot() {
		return nil
	}
	return os.Lchown(path, launch.RootID, launch.RootID)
}

// A copier copies a tree, within limits.
type copier struct {
	from, to      *os.Root
	dir           string // that to is
	left, entries int64
}

func (c *copier) entry(name string, entry fs.DirEntry, err error) error {
	if err != nil || name == "." {
		return err
	}
	if c.entries--; c.entries < 0 {
		return fmt.Errorf("%s: there are too many entries: %w", name, syscall.EDQUOT)
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		err = c.to.Mkdir(name, info.Mode().Perm()|0o700)
	case fs.ModeSymlink:
		var target string
		if target, err = c.from.Readlink(name); err == nil {
			err = c.to.Symlink(target, name)
		}
	case 0:
		err = c.file(name, info)
	default:
		return nil // a command has no use for the fifos of others
	}
	if err != nil {
		return err
	}
	return giveAway(filepath.Join(c.dir, name))
}

func (c *copier) file(name string, info fs.FileInfo) (err error) {
	if c.left -= info.Size(); c.left < 0 {
		return fmt.Errorf("%s: the tree is too large: %w", name, syscall.EDQUOT)
	}
	from, err := c.from.Open(name)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read from
	to, err := c.to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Chmod(info.Mode().Perm())
}
