package workspace

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// system is what a walk asks of the kernel. Everything below the root is reached from the descriptor of its directory
// and without following links, so a directory swapped for a link in mid-walk leads nowhere. Tests replace single
// functions to make a call fail.
type system struct {
	openDir  func(parent int, name string) (fd int, err error)
	openFile func(parent int, name string) (fd int, err error)
	getdents func(fd int, buf []byte) (n int, err error)
	stat     func(parent int, name string, st *unix.Stat_t) error
}

func linux() system {
	return system{
		openDir: func(parent int, name string) (int, error) {
			return openat(parent, name, unix.O_DIRECTORY|unix.O_NOFOLLOW)
		},
		openFile: func(parent int, name string) (int, error) {
			return openat(parent, name, unix.O_NOFOLLOW)
		},
		getdents: func(fd int, buf []byte) (int, error) {
			return retry(func() (int, error) { return unix.Getdents(fd, buf) })
		},
		stat: func(parent int, name string, st *unix.Stat_t) error {
			for {
				err := unix.Fstatat(parent, name, st, unix.AT_SYMLINK_NOFOLLOW)
				if !errors.Is(err, unix.EINTR) {
					return err
				}
			}
		},
	}
}

// openat opens for reading. It never waits for the other end of a fifo and the descriptor is not inherited.
func openat(parent int, name string, flags int) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(parent, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|flags, 0)
	})
}

// retry repeats call for as long as a signal interrupts it.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// dirents calls each for the entries that getdents left in buf, except "." and "..". name is valid during the call.
func dirents(buf []byte, each func(name []byte, kind uint8)) {
	// struct linux_dirent64: inode 8, offset 8, length 2, type 1, name with a NUL.
	const lenAt, kindAt, nameAt = 16, 18, 19
	for len(buf) > nameAt {
		size := int(binary.NativeEndian.Uint16(buf[lenAt:]))
		if size <= nameAt || size > len(buf) {
			return
		}
		name := buf[nameAt:size]
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		if s := string(name); s != "." && s != ".." { // does not allocate
			each(name, buf[kindAt])
		}
		buf = buf[size:]
	}
}

// kindOf turns the type in a mode into the type of a directory entry.
func kindOf(mode uint32) uint8 { return uint8((mode & unix.S_IFMT) >> 12) }

const (
	maxIgnoreFile = 16 << 20  // bytes; also configuration files
	maxIndexFile  = 512 << 20 // bytes
)

var errTooLarge = errors.New("the file is too large")

// readRegular reads a small file by its path. A file that is not regular (core.excludesFile may be /dev/null) is as
// good as absent.
func readRegular(path string) ([]byte, error) {
	return readLimited(path, maxIgnoreFile)
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return readAndClose(f, limit)
}

func readAndClose(f *os.File, limit int64) (data []byte, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: fs.ErrNotExist}
	}
	data, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: errTooLarge}
	}
	return data, err
}

// ignoreMissing is err, or nil where it only says that there is no such file.
func ignoreMissing(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

// gone reports whether err says that there is nothing (any more) under a name.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
