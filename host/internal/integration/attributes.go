package integration

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const capability = "security.capability"

// copyAttributes gives a file the extended attributes of another, access control
// lists among them. Powers are not handed on to new content.
func copyAttributes(from, to *os.File) error {
	names, err := listAttributes(int(from.Fd()))
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == capability {
			return refused("it has capabilities")
		}
		value, err := attribute(int(from.Fd()), name)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(int(to.Fd()), name, value, 0); err != nil {
			return refused("its attribute %s cannot be kept: %w", name, err)
		}
	}
	return nil
}

func listAttributes(fd int) ([]string, error) {
	buffer, err := grow(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if errors.Is(err, unix.ENOTSUP) || len(buffer) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(buffer), "\x00"), "\x00"), err
}

func attribute(fd int, name string) ([]byte, error) {
	return grow(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// grow asks with a buffer of the size that was told, again if it has grown since.
func grow(ask func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := ask(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		buffer := make([]byte, n)
		n, err = ask(buffer)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		return buffer[:max(n, 0)], err
	}
}
