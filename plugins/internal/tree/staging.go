package tree

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// stagingPrefix begins the names of staging directories.
const stagingPrefix = ".sop-restore-"

// staging is a directory in the target, in which each path is made before it is
// moved into its place. It is locked as long as its restore lives.
type staging struct {
	target *Tree
	root   *os.Root // the target, for removing
	dir    *os.File
	name   string
}

// newStaging makes one, and removes those of restores that were killed.
func newStaging(target *Tree) (*staging, error) {
	root, err := os.OpenRoot(procPath(target.dir))
	if err != nil {
		return nil, err
	}
	s := &staging{target: target, root: root, name: stagingPrefix + token()}
	s.removeStale()
	if err := unix.Mkdirat(int(target.dir.Fd()), s.name, 0o700); err != nil {
		return nil, errors.Join(&os.PathError{Op: "mkdir", Path: s.name, Err: err}, root.Close())
	}
	if s.dir, err = target.OpenDir(Path(s.name)); err == nil {
		err = unix.Flock(s.fd(), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func (s *staging) fd() int { return int(s.dir.Fd()) }

// remove ends the staging. What is left is removed by the next restore.
func (s *staging) remove() {
	_ = s.root.RemoveAll(s.name)
	if s.dir != nil {
		_ = s.dir.Close()
	}
	_ = s.root.Close()
}

// removeStale removes staging directories whose restore is dead. What cannot be
// removed is in nobody's way.
func (s *staging) removeStale() {
	list, err := s.target.OpenDir(".")
	if err != nil {
		return
	}
	names, _ := list.Readdirnames(-1)
	_ = list.Close()
	for _, name := range names {
		if random, ok := strings.CutPrefix(name, stagingPrefix); !ok || len(random) != 16 || strings.Trim(random, "0123456789abcdef") != "" {
			continue
		}
		dir, err := s.target.OpenDir(Path(name))
		if err != nil {
			continue
		}
		if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = s.root.RemoveAll(name)
		}
		_ = dir.Close()
	}
}

// errOtherDisk says that a path cannot be moved into its place at once.
var errOtherDisk = errors.New("it lies on another file system than the target: restore it with a target there")

// place moves name to p and returns the Inode. Without overwrite nothing may be
// there.
func (s *staging) place(name string, p Path, overwrite bool) (Inode, error) {
	parent, base, err := s.target.parent(p)
	if err != nil {
		return Inode{}, err
	}
	defer parent.Close() //nolint:errcheck // a directory that was read only
	st, err := statAt(s.dir, name)
	if err != nil {
		return Inode{}, err
	}
	id := Inode{st.Dev, st.Ino}
	if !overwrite {
		err = unix.Renameat2(s.fd(), name, int(parent.Fd()), base, unix.RENAME_NOREPLACE)
	} else {
		err = unix.Renameat(s.fd(), name, int(parent.Fd()), base)
	}
	switch {
	case errors.Is(err, unix.EEXIST) && !overwrite:
		return id, errors.New("it exists, and overwriting was not asked for")
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY):
		return id, s.exchange(name, p)
	case errors.Is(err, unix.EXDEV):
		return id, errOtherDisk
	}
	return id, err
}

// exchange puts name in the place of what is at p, and removes that.
func (s *staging) exchange(name string, p Path) error {
	parent, base, err := s.target.parent(p)
	if err != nil {
		return err
	}
	defer parent.Close() //nolint:errcheck // a directory that was read only
	err = unix.Renameat2(s.fd(), name, int(parent.Fd()), base, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EXDEV) {
		return errOtherDisk
	}
	if err != nil {
		return err
	}
	return s.root.RemoveAll(path.Join(s.name, name))
}

// metadata sets that of something in the staging directory which cannot be
// opened. Nobody else writes there.
func (s *staging) metadata(e *Entry, name string) error {
	err := owned(func() error {
		return unix.Fchownat(s.fd(), name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)
	}, func() (unix.Stat_t, error) { return statAt(s.dir, name) }, e)
	if e.Type != TypeSymlink {
		err = errors.Join(err, os.NewSyscallError("chmod", unix.Fchmodat(s.fd(), name, safeMode(e, err), 0)))
	}
	return errors.Join(err, os.NewSyscallError("utimensat", unix.UtimesNanoAt(s.fd(), name, e.times(), unix.AT_SYMLINK_NOFOLLOW)))
}

// setMetadata gives an open file or directory its owner, mode, extended
// attributes and times, in the order in which one does not undo the other. It
// goes on after what is refused.
func setMetadata(f *os.File, e *Entry) error {
	owner := owned(func() error { return unix.Fchown(int(f.Fd()), int(e.UID), int(e.GID)) },
		func() (unix.Stat_t, error) { return stat(f) }, e)
	return errors.Join(owner,
		os.NewSyscallError("chmod", unix.Fchmod(int(f.Fd()), safeMode(e, owner))),
		writeXattrs(f, e.Xattrs),
		os.NewSyscallError("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, procPath(f), e.times(), 0)))
}

// owned changes the owner unless it is right already.
func owned(change func() error, stat func() (unix.Stat_t, error), e *Entry) error {
	st, err := stat()
	if err != nil || st.Uid == e.UID && st.Gid == e.GID {
		return err
	}
	return os.NewSyscallError("chown", change())
}

// safeMode leaves out the set-id bits where the owner is not the right one: they
// would lend another's rights.
func safeMode(e *Entry, owner error) uint32 {
	if owner != nil {
		return uint32(e.Mode) &^ (unix.S_ISUID | unix.S_ISGID)
	}
	return uint32(e.Mode)
}

func (e *Entry) times() []unix.Timespec {
	return []unix.Timespec{{Sec: e.Accessed[0], Nsec: e.Accessed[1]}, {Sec: e.Modified[0], Nsec: e.Modified[1]}}
}

// SparseWriter writes the data of a file, extents one after the other, where it
// belongs.
func SparseWriter(file io.WriterAt, e *Entry) io.Writer {
	return &sparseWriter{file: file, extents: e.Extents, sparse: e.Sparse}
}

// sparseWriter writes data where it belongs in a file.
type sparseWriter struct {
	file    io.WriterAt
	sparse  bool
	extents []Extent
	// at is how much of the first Extent is written; of the file if it is not sparse.
	at int64
}

// Write implements [io.Writer].
func (w *sparseWriter) Write(p []byte) (n int, err error) {
	if !w.sparse {
		n, err = w.file.WriteAt(p, w.at)
		w.at += int64(n)
		return n, err
	}
	for n < len(p) && len(w.extents) > 0 {
		x := w.extents[0]
		part := p[n:min(len(p), n+int(min(x[1]-w.at, int64(len(p)))))]
		m, err := w.file.WriteAt(part, x[0]+w.at)
		n, w.at = n+m, w.at+int64(m)
		if err != nil {
			return n, err
		}
		if w.at == x[1] {
			w.extents, w.at = w.extents[1:], 0
		}
	}
	return len(p), nil // what is more than was stored is an error of the object
}

// token is a random name of 16 hexadecimal digits.
func token() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// SyncFS makes everything on the file system of d durable. It reports what
// failed to be written since d was opened.
func SyncFS(d *os.File) error {
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}
