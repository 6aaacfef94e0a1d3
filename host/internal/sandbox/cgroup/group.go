package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a cgroup, in v1 one in each hierarchy, for one process and its
// descendants.
type Group struct {
	sys     system
	name    string
	version Version
	dirs    []groupDir
}

// groupDir is a group in one hierarchy.
type groupDir struct {
	path        string
	own         string // cgroup of the process that made it
	controllers []string
}

// Name is that of its directory.
func (g *Group) Name() string { return g.name }

// path of the group in the hierarchy of a controller; empty when it has none.
func (g *Group) path(controller string) string {
	for _, d := range g.dirs {
		if slices.Contains(d.controllers, controller) {
			return d.path
		}
	}
	return ""
}

// PlaceError says that a process could not be placed in its group. None runs.
type PlaceError struct {
	Err error
	// Stuck says that the calling thread could not leave the group again. It
	// must start no other process; others of the program are not affected.
	Stuck bool
}

// Error returns the cause.
func (e *PlaceError) Error() string { return "place the process in its cgroup: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PlaceError) Unwrap() error { return e.Err }

// Start calls fork, which must start a process with attr from the calling
// thread, so that the process is in the group from its first instruction. It
// must be called from a locked thread that is not the process's first. The error
// is fork's, or a [*PlaceError].
//
// In v2 the kernel places the child as it makes it. In v1 a child begins where
// the thread is that forks: the thread alone enters the group, which costs no
// lock as long as it moves itself, forks, and leaves. Its memory is that of the
// process and stays charged to the cgroup of its first thread.
func (g *Group) Start(attr *syscall.SysProcAttr, fork func() (*os.Process, error)) (*os.Process, error) {
	if g.version == V2 {
		return g.startV2(attr, fork)
	}
	ways, err := g.enter()
	var process *os.Process
	if err == nil {
		process, err = fork()
	}
	if stuck := leave(ways); stuck != nil {
		if process != nil {
			// It is ours and unreaped: neither call can miss it.
			_ = process.Kill()
			_, _ = process.Wait()
		}
		return nil, &PlaceError{Err: stuck, Stuck: true}
	}
	return process, err
}

// Ways opens what a process of one thread needs to get into the group by itself:
// in v2 the directory in which its child is to begin, in v1 the files of tasks
// in which it writes itself down, as "0", for which it needs no lock.
func (g *Group) Ways() (ways []*os.File, err error) {
	for _, d := range g.dirs {
		path, flags := filepath.Join(d.path, "tasks"), unix.O_WRONLY
		if g.version == V2 {
			path, flags = d.path, unix.O_PATH|unix.O_DIRECTORY
		}
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			for _, way := range ways {
				err = errors.Join(err, way.Close())
			}
			return nil, &PlaceError{Err: &os.PathError{Op: "open", Path: path, Err: err}}
		}
		ways = append(ways, os.NewFile(uintptr(fd), path))
	}
	return ways, nil
}

// wayOut is where a thread goes back to: the open file of tasks of a cgroup.
type wayOut struct {
	fd   int
	path string
}

// enter moves the calling thread into the group, hierarchy by hierarchy, each
// time with the way out already open, and returns the ways out.
func (g *Group) enter() (ways []wayOut, err error) {
	for _, d := range g.dirs {
		out := wayOut{path: filepath.Join(d.own, "tasks")}
		if out.fd, err = unix.Open(out.path, unix.O_WRONLY|unix.O_CLOEXEC, 0); err != nil {
			return ways, &PlaceError{Err: &os.PathError{Op: "open", Path: out.path, Err: err}}
		}
		if err := write(filepath.Join(d.path, "tasks"), "0"); err != nil {
			_ = unix.Close(out.fd) // not written to
			return ways, &PlaceError{Err: err}
		}
		ways = append(ways, out)
	}
	return ways, nil
}

// leave moves the calling thread back.
func leave(ways []wayOut) error {
	var failed []error
	for _, out := range slices.Backward(ways) {
		if _, err := unix.Write(out.fd, []byte("0")); err != nil {
			failed = append(failed, &os.PathError{Op: "write \"0\" to", Path: out.path, Err: err})
		}
		_ = unix.Close(out.fd) // what was written is in force
	}
	return errors.Join(failed...)
}

func (g *Group) startV2(attr *syscall.SysProcAttr, fork func() (*os.Process, error)) (*os.Process, error) {
	fd, err := unix.Open(g.dirs[0].path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &PlaceError{Err: &os.PathError{Op: "open", Path: g.dirs[0].path, Err: err}}
	}
	defer func() { _ = unix.Close(fd) }() // a path only
	attr.UseCgroupFD, attr.CgroupFD = true, fd
	return fork()
}

// removeWait is how long a cgroup may stay busy after its last process was
// killed: the kernel lists a process no more from its exit on, and counts it
// until it has been switched out.
const removeWait = 100 * time.Millisecond

// Remove removes the group, in which no process may be left. What it no longer
// finds counts as removed. It returns within a moment, and takes no context: it
// is called where one has ended.
func (g *Group) Remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), removeWait)
	defer cancel()
	var failed []error
	for _, d := range g.dirs {
		if err := g.removeDir(ctx, d.path); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// removeDir removes a cgroup and those that its processes made beneath it.
func (g *Group) removeDir(ctx context.Context, dir string) error {
	var busy error
	err := until(ctx, func() (bool, error) {
		err := g.sys.rmdir(dir)
		switch {
		case err == nil, errors.Is(err, os.ErrNotExist):
			return true, nil
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY):
			return false, err
		}
		busy = err
		nested, err := subdirectories(dir)
		for _, sub := range nested {
			err = errors.Join(err, g.removeDir(ctx, sub))
		}
		return false, err
	})
	if busy != nil && ctx.Err() != nil {
		return busy
	}
	return err
}

func subdirectories(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

// write writes a control file, in one piece, from the calling thread.
func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	_, err = unix.Write(fd, []byte(value))
	closeErr := unix.Close(fd)
	if err == nil {
		err = closeErr
	}
	if err != nil {
		return &os.PathError{Op: fmt.Sprintf("write %q to", value), Path: path, Err: err}
	}
	return nil
}
