package plugintest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// write writes a file beneath a directory, and the directories above it.
func (b *backupTest) write(dir, name, content string) string {
	b.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		b.Fatal(err)
	}
	return path
}

func (b *backupTest) must(errs ...error) {
	b.Helper()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}

// tree describes everything beneath a directory, by path: type, mode, owner,
// times, content, target, extended attributes, and which names are one file.
func (b *backupTest) tree(root string) map[string]string {
	b.Helper()
	described, err := describe(root)
	b.must(err)
	return described
}

func describe(root string) (map[string]string, error) {
	all, first := make(map[string]string), make(map[uint64]string)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel := strings.TrimPrefix(path, root+"/")
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if _, known := first[st.Ino]; !known {
			first[st.Ino] = rel
		}
		detail, err := details(path, &st)
		all[rel] = fmt.Sprintf("%o %d:%d %d.%09d %s file=%s", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec, detail, first[st.Ino])
		return err
	})
	return all, err
}

// details is what the type of a file adds.
func details(path string, st *unix.Stat_t) (string, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return os.Readlink(path)
	case unix.S_IFREG:
		sum, err := hashFile(path)
		return fmt.Sprintf("%d %s %s", st.Size, sum, xattrs(path)), err
	case unix.S_IFDIR:
		return xattrs(path), nil
	}
	return "", nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), errors.Join(err, f.Close())
}

func xattrs(path string) string {
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(path, buf)
	if err != nil || n <= 0 {
		return ""
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var out strings.Builder
	for _, name := range names {
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		fmt.Fprintf(&out, "%s=%q/%v ", name, value[:max(n, 0)], err)
	}
	return out.String()
}

// same expects that two trees are the same.
func (b *backupTest) same(got, want map[string]string) {
	b.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			b.Errorf("%q:\n got %s\nwant %s", name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, known := want[name]; !known {
			b.Errorf("%q is there and should not be", name)
		}
	}
}

// everything puts one of each kind of thing into the root.
func (b *backupTest) everything() {
	b.Helper()
	b.write(b.root, "plain.txt", "plain\n")
	b.write(b.root, "empty", "")
	b.write(b.root, "large.bin", strings.Repeat("0123456789abcdef", 1<<16))
	b.write(b.root, "dir/sub/file.go", "package sub\n")
	b.write(b.root, "dir/script.sh", "#!/bin/sh\n")
	in := func(name string) string { return filepath.Join(b.root, name) }
	b.must(
		os.Mkdir(in("dir/empty"), 0o700),
		os.Chmod(in("dir/script.sh"), 0o4755), //nolint:gosec // that it is kept is what is tested
		os.Symlink("plain.txt", in("link")),
		os.Symlink("nowhere/at all", in("dangling")),
		os.Symlink("loop-b", in("loop-a")),
		os.Symlink("loop-a", in("loop-b")),
		os.Symlink("..", in("dir/up")),
		os.Link(in("plain.txt"), in("zz-same-file")),
		unix.Mkfifo(in("fifo"), 0o640),
		os.Chmod(in("dir/script.sh"), 0o755|os.ModeSetuid),
		b.sparseFile(in("holes"), 1<<20, 300<<10),
	)
	if err := unix.Setxattr(in("plain.txt"), "user.origin", []byte("by \x00 hand"), 0); err != nil {
		b.Logf("extended attributes are not tried: %v", err)
	} else {
		b.must(unix.Setxattr(in("dir"), "user.kind", []byte("directory"), 0))
	}
	old := time.Date(1971, 2, 3, 4, 5, 6, 789, time.UTC)
	ahead := time.Now().AddDate(1, 0, 0)
	b.must(os.Chtimes(in("plain.txt"), old, old), os.Chtimes(in("dir/sub/file.go"), ahead, ahead))
	b.must(os.Chmod(in("dir/sub"), 0o500)) //nolint:gosec // a directory of the test
	b.removable(b.root)
}

// sparseFile makes a file of a size with a few bytes at an offset.
func (b *backupTest) sparseFile(path string, size, at int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat([]byte("data"), 1024), at)
	return errors.Join(err, f.Truncate(size), f.Close())
}

// removable lets the directories beneath dir be removed when the test ends.
func (b *backupTest) removable(dir string) {
	b.Cleanup(func() {
		b.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			return os.Chmod(path, 0o700) //nolint:gosec // a directory of the test
		}))
	})
}
