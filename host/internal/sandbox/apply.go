package sandbox

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// Content opens the new content of an added or modified file.
type Content func(Change) (io.ReadCloser, error)

// Content opens what the run has written. It serves until Close.
func (o *Outcome) Content(c Change) (io.ReadCloser, error) {
	if o.upper == nil {
		return nil, errors.New("the run is closed")
	}
	return openIn(o.upper, c.Path)
}

// Apply makes the changes in the tree at root. Before it touches anything, all
// that is to be replaced must be as it was when the changes were worked out,
// and while it writes, the content must be what it was then. Each file is
// replaced at once; what an error leaves half done is for the caller's backup.
func Apply(root *os.Root, set *ChangeSet, content Content) error {
	if len(set.Rejected) > 0 {
		return fmt.Errorf("the change set is rejected: %v", set.Rejected[0])
	}
	for i := range set.Changes {
		if err := checkOld(root, &set.Changes[i]); err != nil {
			return err
		}
	}
	for i := range set.Changes {
		if err := applyOne(root, &set.Changes[i], content); err != nil {
			return fmt.Errorf("%s %s: %w", set.Changes[i].Op, set.Changes[i].Path, err)
		}
	}
	return nil
}

// ErrConflict says that a path is no longer what the changes were worked out
// against.
var ErrConflict = errors.New("it has changed meanwhile")

func checkOld(root *os.Root, c *Change) error {
	info, err := root.Lstat(c.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if c.OldSHA256 == "" && !c.OldDir && c.Op != OpDelete {
			return nil
		}
		return fmt.Errorf("%s: %w: it is gone", c.Path, ErrConflict)
	case err != nil:
		return fmt.Errorf("%s: %w", c.Path, err)
	case c.OldDir != info.IsDir() && !c.comes():
		return fmt.Errorf("%s: %w: its type is another", c.Path, ErrConflict)
	case info.IsDir() || c.comes():
		return nil // what is in the way is gone when it is made, or making it fails
	}
	hash, err := hashIn(root, c.Path, info)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	if hash != c.OldSHA256 {
		return fmt.Errorf("%s: %w: it holds %.12s instead of %.12s", c.Path, ErrConflict, hash, c.OldSHA256)
	}
	return nil
}

// comes says that a change replaces nothing.
func (c *Change) comes() bool {
	return c.OldSHA256 == "" && !c.OldDir && c.Op != OpDelete
}

func hashIn(root *os.Root, name string, info fs.FileInfo) (string, error) {
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := root.Readlink(name)
		return hashOf(target), err
	}
	if !info.Mode().IsRegular() {
		return "", nil
	}
	file, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // only read from
	return hashFrom(file)
}

func applyOne(root *os.Root, c *Change, content Content) error {
	switch c.Op {
	case OpDelete:
		return root.Remove(c.Path)
	case OpMkdir:
		if err := root.Mkdir(c.Path, 0o700); err != nil {
			return err
		}
		return root.Chmod(c.Path, fs.FileMode(c.Mode))
	case OpChmod:
		return root.Chmod(c.Path, fs.FileMode(c.Mode))
	case OpSymlink:
		return replace(root, c, func(temporary string) error { return root.Symlink(c.Target, temporary) })
	case OpAdd, OpModify:
		return replace(root, c, func(temporary string) error { return write(root, temporary, c, content) })
	}
	return fmt.Errorf("there is no operation %q", c.Op)
}

// replace makes an entry beside its place and then moves it there. What must
// not be there is not replaced.
func replace(root *os.Root, c *Change, make func(temporary string) error) error {
	temporary := path.Join(path.Dir(c.Path), ".sop-"+rand.Text())
	if err := make(temporary); err != nil {
		return errors.Join(err, removeIfThere(root, temporary))
	}
	if c.comes() {
		if _, err := root.Lstat(c.Path); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(ErrConflict, err, removeIfThere(root, temporary))
		}
	}
	if err := root.Rename(temporary, c.Path); err != nil {
		return errors.Join(err, removeIfThere(root, temporary))
	}
	return nil
}

func removeIfThere(root *os.Root, name string) error {
	if err := root.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func write(root *os.Root, name string, c *Change, content Content) (err error) {
	from, err := content(*c)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read from
	to, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(to, hash), io.LimitReader(from, c.Size+1)); err != nil {
		return err
	}
	if hex.EncodeToString(hash.Sum(nil)) != c.SHA256 {
		return fmt.Errorf("the new content: %w", ErrConflict)
	}
	if err := to.Chmod(fs.FileMode(c.Mode)); err != nil {
		return err
	}
	return to.Sync()
}
