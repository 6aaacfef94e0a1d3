// Package scratch makes temporary directories that do not outlive a process that
// was killed: the next one of the same user removes them.
//
// A directory is held with a shared lock (flock(2)) for as long as somebody wants
// it, and has its name only once it is held. One that has the name and is not
// held is therefore what a killed process has left.
package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// prefix begins the names of directories that are held.
	prefix = "sop-tmp-"
	// birthPrefix begins the names of those that are not held yet; who makes them
	// follows. birthTime is more than it takes to hold them.
	birthPrefix = ".sop-tmp-"
	birthTime   = time.Minute
)

// processes names the processes among which a process id means something.
var processes = sync.OnceValue(func() string {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "0" // nobody's: age alone decides
	}
	return strings.Trim(namespace, "pid:[]")
})

// birthName begins the name of a directory that a process makes.
func birthName(pid int) string { return fmt.Sprintf("%s%s-%d-", birthPrefix, processes(), pid) }

// unborn says whether the process that was making a directory is gone.
func unborn(name string) bool {
	rest, ours := strings.CutPrefix(name, birthPrefix+processes()+"-")
	id, _, _ := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(id)
	return ours && processes() != "0" && err == nil && pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// A Dir is a directory of this process, with mode 0700 until its owner says
// otherwise. The nil *Dir is one that has been closed.
type Dir struct {
	path string
	lock *os.File
}

// New makes a directory in [os.TempDir]; what says, in its name, what it is for.
// The caller closes it. The first call removes what killed processes have left.
func New(what string) (*Dir, error) {
	sweepOnce()
	return newIn(os.TempDir(), what)
}

func newIn(parent, what string) (*Dir, error) {
	birth := birthName(os.Getpid())
	born, err := os.MkdirTemp(parent, birth)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: filepath.Join(parent, prefix+what+"-"+strings.TrimPrefix(filepath.Base(born), birth))}
	if d.lock, err = os.Open(born); err != nil {
		return nil, errors.Join(err, os.RemoveAll(born))
	}
	if err = unix.Flock(int(d.lock.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, born, unix.AT_FDCWD, d.path, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(born), d.lock.Close())
	}
	return d, nil
}

// Path is where the directory is.
func (d *Dir) Path() string { return d.path }

// Join is the path of something in it.
func (d *Dir) Join(name ...string) string {
	return filepath.Join(append([]string{d.path}, name...)...)
}

// Close removes the directory with all that is in it. It may be called again.
func (d *Dir) Close() error {
	if d == nil || d.lock == nil {
		return nil
	}
	lock := d.lock
	d.lock = nil
	return errors.Join(os.RemoveAll(d.path), lock.Close())
}

// sweepOnce looks for what others have left. What cannot be removed now, the next
// process tries to.
var sweepOnce = sync.OnceFunc(func() { _ = sweep(os.TempDir()) })

// sweep removes directories of this user that nobody holds.
func sweep(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		born := strings.HasPrefix(entry.Name(), birthPrefix) && !unborn(entry.Name())
		if !entry.IsDir() || !strings.HasPrefix(strings.TrimPrefix(entry.Name(), "."), prefix) {
			continue
		}
		if path := filepath.Join(parent, entry.Name()); abandoned(path, born) {
			failed = append(failed, os.RemoveAll(path))
		}
	}
	return errors.Join(failed...)
}

func abandoned(path string, born bool) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // another user's, or gone
	}
	dir := os.NewFile(uintptr(fd), path)
	defer func() { _ = dir.Close() }() // only looked at
	info, err := dir.Stat()
	if err != nil || !mine(info) || born && time.Since(info.ModTime()) < birthTime {
		return false
	}
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
}

// mine says whether a file is of this user.
func mine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
