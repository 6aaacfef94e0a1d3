package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// fileBlock is what is expected of the file that the label names.
type fileBlock struct {
	Mode   string `json:"mode"`
	Owner  string `json:"owner"`
	Group  string `json:"group"`
	SHA256 string `json:"sha256"`
}

const allBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

func (b fileBlock) check(path string) (*check, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, invalid("", "Label the block with an absolute path.", "%q is no absolute path", path)
	}
	var mode fs.FileMode
	if b.Mode != "" {
		bits, err := strconv.ParseUint(b.Mode, 8, 12)
		if err != nil {
			return nil, invalid("mode", "Write the permission bits in octal, such as 0640.", "%q is no mode", b.Mode)
		}
		mode = modeOf(uint32(bits))
	}
	sum := strings.ToLower(b.SHA256)
	if raw, err := hex.DecodeString(sum); err != nil || sum != "" && len(raw) != sha256.Size {
		return nil, invalid("sha256", "Write the checksum that sha256sum prints, 64 hex digits.", "%q is no SHA-256 checksum", b.SHA256)
	}
	var expected []string
	for _, e := range []struct{ what, value string }{{"mode", b.Mode}, {"owner", b.Owner}, {"group", b.Group}, {"sha256", sum}} {
		if e.value != "" {
			expected = append(expected, e.what+" "+e.value)
		}
	}
	c := &check{expected: "there, " + strings.Join(expected, ", "), remedy: "put back what is expected, or expect what is there"}
	c.failing = func(ctx context.Context) (string, error) {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path + " is missing", nil
		}
		if err != nil {
			return "", err
		}
		if got := info.Mode() & allBits; b.Mode != "" && got != mode {
			return fmt.Sprintf("%s has mode %v; expected is %v", path, got, mode), nil
		}
		if failing, err := b.owned(path, info); failing != "" || err != nil {
			return failing, err
		}
		if sum == "" {
			return "", nil
		}
		got, err := sumOf(ctx, path)
		if err != nil {
			return "", err
		}
		if got != sum {
			return fmt.Sprintf("%s has the checksum %s; expected is %s", path, got, sum), nil
		}
		return "", nil
	}
	return c, nil
}

// modeOf is Go's mode of a Unix mode.
func modeOf(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, m := range map[uint32]fs.FileMode{syscall.S_ISUID: fs.ModeSetuid, syscall.S_ISGID: fs.ModeSetgid, syscall.S_ISVTX: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= m
		}
	}
	return mode
}

// owned compares owner and group.
func (b fileBlock) owned(path string, info fs.FileInfo) (string, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("the file system knows no owners")
	}
	for _, o := range []struct {
		what, want string
		got        uint32
		lookup     func(name string) (string, error)
	}{
		{"owner", b.Owner, stat.Uid, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		}},
		{"group", b.Group, stat.Gid, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		}},
	} {
		if o.want == "" {
			continue
		}
		id := o.want
		if _, err := strconv.ParseUint(o.want, 10, 32); err != nil {
			if id, err = o.lookup(o.want); err != nil {
				return "", err
			}
		}
		if got := strconv.FormatUint(uint64(o.got), 10); got != id {
			return fmt.Sprintf("%s has the %s %s; expected is %s", path, o.what, got, o.want), nil
		}
	}
	return "", nil
}

// sumOf hashes a regular file until ctx is done.
func sumOf(ctx context.Context, path string) (string, error) {
	// Opening what is no regular file could wait for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(errors.New("it is no regular file"), err)
	}
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", ctx.Err()
}
