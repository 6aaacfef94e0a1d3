package main

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// tree is a directory beneath which paths are opened, and nowhere else: the
// kernel follows no symbolic link and no "..", whatever is put there meanwhile.
type tree struct {
	dir *os.File
}

// openTree opens a directory that an operator or the host has named.
func openTree(name string) (*tree, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return &tree{os.NewFile(uintptr(fd), name)}, nil
}

func (t *tree) close() { _ = t.dir.Close() }

// resolveTries bounds how often a look-up is repeated that the kernel could not
// prove safe because something was renamed meanwhile.
const resolveTries = 64

// open opens what is at p, which is local or ".". A symbolic link is an error
// (ELOOP) unless flags have O_PATH and O_NOFOLLOW.
func (t *tree) open(p rawPath, flags int) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range resolveTries {
		fd, err := unix.Openat2(int(t.dir.Fd()), string(p), &how)
		if err == nil {
			return os.NewFile(uintptr(fd), string(p)), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, &os.PathError{Op: "open", Path: string(p), Err: err}
		}
	}
	return nil, &os.PathError{Op: "open", Path: string(p), Err: unix.EAGAIN}
}

// openDir opens a directory for reading.
func (t *tree) openDir(p rawPath) (*os.File, error) {
	return t.open(p, unix.O_RDONLY|unix.O_DIRECTORY)
}

// stat describes what is at p; a symbolic link itself.
func (t *tree) stat(p rawPath) (unix.Stat_t, error) {
	dir, base, err := t.parent(p)
	if err != nil {
		return unix.Stat_t{}, err
	}
	defer dir.Close() //nolint:errcheck // a directory that was read only
	return statAt(dir, base)
}

// parent opens the directory that p is in, and returns p's last step.
func (t *tree) parent(p rawPath) (dir *os.File, base string, err error) {
	dir, err = t.openDir(rawPath(path.Dir(string(p))))
	return dir, path.Base(string(p)), err
}

// statAt describes what has a name in a directory; a symbolic link itself.
func statAt(dir *os.File, base string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		err = &os.PathError{Op: "stat", Path: base, Err: err}
	}
	return st, err
}

// stat describes an open file.
func stat(f *os.File) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return st, os.NewSyscallError("fstat", err)
}

// procPath is a name for an open file, for the calls that take none.
func procPath(f *os.File) string { return "/proc/self/fd/" + itoa(int(f.Fd())) }
