package launch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fork makes a child that is a copy of this process, with one thread, and goes
// on from here with pid 0 in it. namespaces are those that the child gets anew;
// group is the directory of a cgroup that it begins in, 0 for that of this process.
//
// Go's runtime believes the copy to have its other threads, which it has not.
// So what goes on in a copy may not start a goroutine, wait for anything but the
// kernel, or collect garbage; and what runs as long as a command does may not
// allocate.
func fork(namespaces uintptr, group int) (pid, pidfd int, err error) {
	flags, fd := namespaces|unix.CLONE_PIDFD, int32(-1)
	var id uintptr
	var errno syscall.Errno
	if group > 0 {
		args := cloneArgs{
			flags: uint64(flags | unix.CLONE_INTO_CGROUP), pidfd: uint64(uintptr(unsafe.Pointer(&fd))), //nolint:gosec // the kernel fills it in
			exitSignal: uint64(unix.SIGCHLD), cgroup: uint64(group),
		}
		id, _, errno = unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0) //nolint:gosec // the kernel copies it
	} else {
		id, _, errno = unix.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, uintptr(unsafe.Pointer(&fd)), 0, 0, 0) //nolint:gosec // the kernel fills it in
	}
	if errno != 0 {
		return -1, -1, errno
	}
	return int(id), int(fd), nil
}

// cloneArgs are the kernel's.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// signalSet holds all signals, or none.
type signalSet uint64

const (
	allSignals signalSet = ^signalSet(0)
	noSignals  signalSet = 0
	lastSignal           = 64
)

// blockSignals sets which signals do not reach this thread. The copies have no
// use for any: pid 1 waits for its children by descriptor.
func blockSignals(set signalSet) {
	// It cannot fail: the arguments are right.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&set)), 0, unsafe.Sizeof(set), 0, 0) //nolint:gosec // the kernel copies it
}

// Ways to take a signal, for setSignal.
const (
	signalDefault = 0
	signalIgnored = 1
)

// setSignal replaces what Go's runtime has arranged.
func setSignal(signal, how uintptr) {
	action := [4]uintptr{how} // no flags, no mask
	// It fails for SIGKILL and SIGSTOP, which are as they are.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&action)), 0, unsafe.Sizeof(noSignals), 0, 0) //nolint:gosec // the kernel copies it
}

// defaultSignals leaves no handler.
func defaultSignals() {
	for signal := range uintptr(lastSignal) {
		setSignal(signal+1, signalDefault)
	}
}

// mapIDs writes the maps of a process that has a new user namespace.
func mapIDs(pid int, uids, gids []IDRange, groups bool) error {
	proc := "/proc/" + strconv.Itoa(pid)
	if !groups {
		if err := writeWhole(proc+"/setgroups", "deny"); err != nil {
			return err
		}
	}
	return errors.Join(writeWhole(proc+"/uid_map", idLines(uids)), writeWhole(proc+"/gid_map", idLines(gids)))
}

func idLines(ranges []IDRange) (lines string) {
	for _, r := range ranges {
		lines += fmt.Sprintf("%d %d %d\n", r.Inside, r.Outside, r.Count)
	}
	return lines
}

// writeWhole writes what is small to what is there, in one piece.
func writeWhole(name, content string) error { return writeBy(name, content, unix.O_WRONLY) }

// writeNew makes a file that is small, which everybody may read.
func writeNew(name, content string) error {
	return writeBy(name, content, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
}

func writeBy(name, content string, flags int) error {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	if content != "" {
		if _, err = unix.Write(fd, []byte(content)); err != nil {
			err = &os.PathError{Op: "write", Path: name, Err: err}
		}
	}
	return errors.Join(err, unix.Close(fd))
}
