package socket

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A pointer is a small file that says where the host of a configuration
// listens. Commands find the host by the data directory that stands in the
// configuration; the pointer finds it when the configuration has been edited,
// broken or deleted since. It lies in a directory that only this user can
// write to.

// pointerPath is where the pointer of a configuration lies.
func pointerPath(configPath string) (string, error) {
	abs, err := filepath.Abs(configPath)
	if err != nil {
		return "", err
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("sop-%d", os.Geteuid()))
	} else {
		dir = filepath.Join(dir, "sop")
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(dir, hex.EncodeToString(sum[:12])), nil
}

// Announce leaves a pointer to the socket; the function that it returns
// takes it away.
func Announce(configPath, socket string) (remove func() error, err error) {
	path, err := pointerPath(configPath)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := ownDirectory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path+".new", []byte(socket+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, err
	}
	return func() error {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		// Another host's pointer may still be in the directory.
		err := os.Remove(filepath.Dir(path))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) {
			return nil
		}
		return err
	}, nil
}

// Announced returns where the host that was started on a configuration
// listens, if one left word of it.
func Announced(configPath string) (string, bool) {
	path, err := pointerPath(configPath)
	if err != nil || ownDirectory(filepath.Dir(path)) != nil {
		return "", false
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(string(data)), true
}

// ownDirectory fails for a directory that another user could write to.
func ownDirectory(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a directory of this user alone", dir)
	}
	return nil
}
