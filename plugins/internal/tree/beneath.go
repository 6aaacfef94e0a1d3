package tree

import (
	"errors"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// Tree is a directory beneath which paths are opened, and nowhere else: the
// kernel follows no symbolic link and no "..", whatever is put there meanwhile.
type Tree struct {
	dir *os.File
}

// Open opens a directory that an operator or the host has named.
func Open(name string) (*Tree, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return &Tree{os.NewFile(uintptr(fd), name)}, nil
}

// Close closes the directory.
func (t *Tree) Close() { _ = t.dir.Close() }

// Inode tells the directory.
func (t *Tree) Inode() (Inode, error) {
	st, err := stat(t.dir)
	return Inode{st.Dev, st.Ino}, err
}

// resolveTries bounds how often a look-up is repeated that the kernel could not
// prove safe because something was renamed meanwhile.
const resolveTries = 64

// open opens what is at p, which is local or ".". A symbolic link is an error
// (ELOOP) unless flags have O_PATH and O_NOFOLLOW.
func (t *Tree) open(p Path, flags int) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range resolveTries {
		fd, err := unix.Openat2(int(t.dir.Fd()), string(p), &how)
		if err == nil {
			return os.NewFile(uintptr(fd), string(p)), nil
		}
		if errors.Is(err, unix.ENOSYS) {
			return nil, &os.PathError{Op: "open", Path: string(p), Err: errNoOpenat2}
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, &os.PathError{Op: "open", Path: string(p), Err: err}
		}
	}
	return nil, &os.PathError{Op: "open", Path: string(p), Err: unix.EAGAIN}
}

// errNoOpenat2 is why nothing can be opened safely.
var errNoOpenat2 = errors.New("the system call openat2 is not to be had: run on Linux 5.6 or later, " +
	"without a filter that forbids it, such as RestrictSUIDSGID of a systemd unit")

// OpenDir opens a directory for reading.
func (t *Tree) OpenDir(p Path) (*os.File, error) {
	return t.open(p, unix.O_RDONLY|unix.O_DIRECTORY)
}

// stat describes what is at p; a symbolic link itself.
func (t *Tree) stat(p Path) (unix.Stat_t, error) {
	dir, base, err := t.parent(p)
	if err != nil {
		return unix.Stat_t{}, err
	}
	defer dir.Close() //nolint:errcheck // a directory that was read only
	return statAt(dir, base)
}

// parent opens the directory that p is in, and returns p's last step.
func (t *Tree) parent(p Path) (dir *os.File, base string, err error) {
	dir, err = t.OpenDir(Path(path.Dir(string(p))))
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
func procPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
