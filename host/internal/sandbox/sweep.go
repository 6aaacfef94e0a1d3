package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// privatePrefix begins the names of private copies.
const privatePrefix = "sop-private-"

// makePrivate makes the directory of a private copy, and holds a lock on it for
// as long as this process wants it: one without is what a killed host has left.
func (o *Outcome) makePrivate() (err error) {
	sweepOnce()
	if o.private, err = os.MkdirTemp("", privatePrefix); err != nil {
		return err
	}
	if o.held, err = os.Open(o.private); err != nil {
		return err
	}
	return unix.Flock(int(o.held.Fd()), unix.LOCK_SH|unix.LOCK_NB)
}

// sweepOnce removes what earlier hosts have left, before the first private copy
// of this process.
var sweepOnce = sync.OnceFunc(func() { _ = sweep(os.TempDir()) }) // what cannot be removed now is tried again by the next

// sweepAge is how long a directory may be without its lock: it is made first.
const sweepAge = 10 * time.Second

// sweep removes private copies of this user that nobody holds.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), privatePrefix) || !entry.IsDir() {
			continue
		}
		if path := filepath.Join(dir, entry.Name()); abandoned(path) {
			failed = append(failed, os.RemoveAll(path))
		}
	}
	return errors.Join(failed...)
}

func abandoned(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // another user's, or gone
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close() //nolint:errcheck // only looked at
	info, err := dir.Stat()
	return err == nil && mine(info) && time.Since(info.ModTime()) > sweepAge && unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
}

// mine says whether a file is of this user.
func mine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
