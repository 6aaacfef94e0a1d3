package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What is gone is forgiven, and nothing else.
func TestIgnoreGone(t *testing.T) {
	for errno, gone := range map[unix.Errno]bool{unix.ENOENT: true, unix.ENODEV: true, unix.ESRCH: true, unix.EACCES: false, unix.EIO: false} {
		err := &fs.PathError{Op: "read", Path: "/proc/1/cgroup", Err: errno}
		if got := ignoreGone(err); (got == nil) != gone {
			t.Errorf("%v: %v", errno, got)
		}
	}
}

// A file in /proc of a process that ends while it is open says so with an error
// that is forgiven, whatever kernel this is.
func TestReadOfEndedProcess(t *testing.T) {
	p, err := os.StartProcess("/proc/self/exe", []string{"none", "-test.run=^$"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(p.Pid), "cgroup"))
	if err = errors.Join(err, p.Kill()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	n, err := f.Read(make([]byte, 100))
	if n > 0 || err == nil {
		t.Errorf("%d bytes of a process that has ended, %v", n, err)
	}
	if err := ignoreGone(err); err != nil {
		t.Errorf("not forgiven: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
