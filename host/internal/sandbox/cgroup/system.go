package cgroup

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// system is what the kernel does, apart from reading and writing files.
type system struct {
	proc      string // where the proc file system is
	mkdir     func(dir string) error
	rmdir     func(dir string) error
	delegated func(dir string) bool // says whether dir was handed to its user to subdivide
	try       func(*Group) error    // says whether a process can be started in a group
}

func kernel() system {
	return system{
		proc:      "/proc",
		mkdir:     func(dir string) error { return os.Mkdir(dir, 0o755) }, //nolint:gosec // as the kernel makes them; they hold no secrets
		rmdir:     rmdir,
		delegated: delegated,
		try:       (*Group).try,
	}
}

func rmdir(dir string) error {
	if err := unix.Rmdir(dir); err != nil {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// delegated says whether systemd, or who else keeps to its convention, handed
// dir over.
func delegated(dir string) bool {
	value := make([]byte, 1)
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, value); err == nil && n == 1 && value[0] == '1' {
			return true
		}
	}
	return false
}

// try starts a process in g that ends before it executes anything; in v1 the
// way in and out is enough. Its thread ends too, so that a way in without a way
// out leaves none of ours inside.
func (g *Group) try() error {
	result := make(chan error)
	go OnThread(func() {
		attr := &syscall.SysProcAttr{}
		_, err := g.Start(attr, func() (*os.Process, error) {
			if g.version == V1 {
				return nil, nil
			}
			return os.StartProcess("/proc/self/no-such-program", []string{"no-such-program"}, &os.ProcAttr{Sys: attr})
		})
		var place *PlaceError
		if errors.Is(err, os.ErrNotExist) && !errors.As(err, &place) {
			err = nil // it came as far as looking for the program
		}
		result <- err
	})
	return <-result
}

// OnThread runs f, from whose thread [Group.Start] may be called: on an OS
// thread that ends when f returns, and is not the process's first: in v1 the
// first stands for the memory of the whole process. Call it on a goroutine of
// its own.
func OnThread(f func()) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() { // on another, since this goroutine holds the first
		defer close(done)
		OnThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}
