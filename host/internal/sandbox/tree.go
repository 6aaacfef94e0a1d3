package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// stat is what a directory says about an entry; zero for none.
type stat struct{ unix.Stat_t }

func (s stat) kind() uint32 { return s.Mode & unix.S_IFMT }

func (s stat) isWhiteout() bool { return s.kind() == unix.S_IFCHR && s.Rdev == 0 }

func (t tree) close() {
	if t.fd >= 0 {
		_ = unix.Close(t.fd) // only read from
	}
}

// isOpaque says whether an upper directory hides the lower one.
func (t tree) isOpaque() bool {
	value := make([]byte, 1)
	n, err := unix.Fgetxattr(t.fd, "user.overlay.opaque", value)
	return err == nil && n == 1 && value[0] == 'y'
}

// names lists a directory, sorted.
func (t tree) names() ([]string, error) {
	if t.fd < 0 {
		return nil, nil
	}
	fd, err := unix.Openat(t.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	var buffer [8 << 10]byte
	var names []string
	for {
		n, err := unix.ReadDirent(fd, buffer[:])
		if n <= 0 || err != nil {
			slices.Sort(names)
			return names, err
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	}
}

// stat returns a zero stat where there is no such entry.
func (t tree) stat(entry string) (s stat, err error) {
	if t.fd < 0 {
		return s, nil
	}
	err = unix.Fstatat(t.fd, entry, &s.Stat_t, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return stat{}, nil
	}
	return s, err
}

func (t tree) sub(entry string, own stat) (tree, error) {
	fd, err := t.open(entry, unix.O_DIRECTORY, own)
	return tree{fd}, err
}

// open opens an entry that is no link. One of the upper tree that the run has
// closed to its own user is opened up first: own is what it was then.
func (t tree) open(entry string, flags int, own stat) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	fd, err := unix.Openat(t.fd, entry, flags, 0)
	if !errors.Is(err, unix.EACCES) || own.kind() == 0 {
		return fd, err
	}
	if err := unix.Fchmodat(t.fd, entry, own.Mode&0o7777|0o700, 0); err != nil {
		return -1, err
	}
	return unix.Openat(t.fd, entry, flags, 0)
}

// hash reads an entry through a buffer, of which trees have many files to read.
func (t tree) hash(entry string, own stat, buffer []byte) (string, error) {
	fd, err := t.open(entry, 0, own)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd) //nolint:errcheck // only read from
	h := sha256.New()
	for {
		n, err := unix.Read(fd, buffer)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return "", err
		case n == 0:
			return hex.EncodeToString(h.Sum(nil)), nil
		default:
			h.Write(buffer[:n])
		}
	}
}

func (t tree) readlink(entry string) (string, error) {
	buffer := make([]byte, unix.PathMax+1)
	n, err := unix.Readlinkat(t.fd, entry, buffer)
	return string(buffer[:max(n, 0)]), err
}

// openIn opens a regular file of a tree by a path with no link in it.
func openIn(dir *os.File, name string) (io.ReadCloser, error) {
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
