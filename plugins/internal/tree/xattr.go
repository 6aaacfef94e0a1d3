package tree

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// readXattrs reads the extended attributes of an open file, sorted by name.
func readXattrs(f *os.File) ([]Xattr, error) {
	names, err := grow(func(b []byte) (int, error) { return unix.Flistxattr(int(f.Fd()), b) })
	if errors.Is(err, unix.ENOTSUP) || len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("listxattr", err)
	}
	var all []Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		value, err := grow(func(b []byte) (int, error) { return unix.Fgetxattr(int(f.Fd()), name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile: the change shows in ctime
		}
		if err != nil {
			return nil, os.NewSyscallError("getxattr "+name, err)
		}
		all = append(all, Xattr{Path(name), value})
	}
	slices.SortFunc(all, func(a, b Xattr) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return all, nil
}

// grow asks for something whose size is not known beforehand and may change.
func grow(ask func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := ask(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = ask(b)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

// writeXattrs gives an open file its extended attributes, and takes away what it
// has besides. It goes on after one that is refused.
func writeXattrs(f *os.File, want []Xattr) (failed error) {
	have, err := readXattrs(f)
	if err != nil {
		return err
	}
	for _, x := range want {
		err := unix.Fsetxattr(int(f.Fd()), string(x.Name), x.Value, 0)
		failed = errors.Join(failed, os.NewSyscallError("setxattr "+string(x.Name), err))
	}
	for _, x := range have {
		if !slices.ContainsFunc(want, func(w Xattr) bool { return w.Name == x.Name }) {
			err := unix.Fremovexattr(int(f.Fd()), string(x.Name))
			failed = errors.Join(failed, os.NewSyscallError("removexattr "+string(x.Name), err))
		}
	}
	return failed
}

// dirXattrs reads those of a directory.
func (t *Tree) dirXattrs(p Path) ([]Xattr, error) {
	dir, err := t.OpenDir(p)
	if err != nil {
		return nil, err
	}
	all, err := readXattrs(dir)
	return all, errors.Join(err, dir.Close())
}
