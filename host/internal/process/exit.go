package process

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// AwaitExit blocks until a child has exited and leaves it unreaped, so that its
// pid, and the number of its process group, still belong to it. It says whether
// a signal ended it, without a core dump: SIGKILL is among those.
func AwaitExit(pid int) (killed bool, err error) {
	const cldKilled = 2 // si_code: see waitid(2)
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && info.Code == cldKilled, err
		}
	}
}

// SignalGroup signals the process and its group. The process must not have
// been reaped.
func SignalGroup(pid int, sig syscall.Signal) error {
	err := syscall.Kill(-pid, sig)
	if errors.Is(err, syscall.ESRCH) {
		err = syscall.Kill(pid, sig)
	}
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
