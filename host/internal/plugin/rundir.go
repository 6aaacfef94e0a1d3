package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// runDir is where plugins have their sockets and working directories. Who removes
// it under a running host has it made again for the next plugin that is started;
// those that run are connected already.
type runDir struct {
	real string // its true path

	mu  sync.Mutex
	dir *os.File
}

// openRunDir makes the directory where there is none, and opens it.
func openRunDir(path string) (*runDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make plugin directory: %w", err)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("resolve plugin directory: %w", err)
	}
	dir, err := os.Open(resolved)
	if err != nil {
		return nil, fmt.Errorf("open plugin directory: %w", err)
	}
	return &runDir{real: resolved, dir: dir}, nil
}

// maxSocketDir is the longest directory whose sockets have an address: 108
// bytes less what go-plugin appends.
const maxSocketDir = 60

// path names the directory, which is there, as the addresses of sockets do: short.
func (r *runDir) path() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.isThere() {
		again, err := openRunDir(r.real)
		if err != nil {
			return "", err
		}
		// Under the same number, which others may have been told.
		err = unix.Dup3(int(again.dir.Fd()), int(r.dir.Fd()), unix.O_CLOEXEC)
		if err := errors.Join(err, again.dir.Close()); err != nil {
			return "", fmt.Errorf("open plugin directory: %w", err)
		}
	}
	if len(r.real) > maxSocketDir {
		return descriptorPath(r.dir), nil
	}
	return r.real, nil
}

// isThere says whether the directory that is open still has its name.
func (r *runDir) isThere() bool {
	open, err := r.dir.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(r.real)
	return err == nil && os.SameFile(open, named)
}

// close removes what the directory holds, and closes it.
func (r *runDir) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(clearDir(descriptorPath(r.dir)), r.dir.Close())
}

// descriptorPath names an open directory, whatever becomes of its path.
func descriptorPath(dir *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", dir.Fd()) }

// clearDir removes what dir holds.
func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read plugin directory: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove what an earlier host left: %w", err)
		}
	}
	return nil
}
