package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Identity tells one process from any other, before and after it.
type Identity struct {
	PID int `json:"pid"`
	// Start is when it was started, in ticks since the machine was.
	Start uint64 `json:"start"`
	// Boot is the machine's.
	Boot string `json:"boot"`
}

// Identify returns the identity of a process that is there.
func Identify(pid int) (Identity, error) {
	boot, err := bootID()
	if err != nil {
		return Identity{}, err
	}
	start, err := startTime(pid)
	return Identity{PID: pid, Start: start, Boot: boot}, err
}

// bootID is read once: another boot is another process.
var bootID = sync.OnceValues(func() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
})

// startTime reads the 22nd field of stat; the second, a name, may contain
// anything.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	fields := strings.Fields(rest)
	const startField = 22 - 3 // the first two are cut off, and fields count from one
	if len(fields) <= startField {
		return 0, fmt.Errorf("/proc/%d/stat is cut short", pid)
	}
	return strconv.ParseUint(fields[startField], 10, 64)
}

// Handle is a process by a descriptor that no other process can come to stand
// for.
type Handle struct {
	PID  int
	file *os.File
}

// Open returns a handle of a child, or of any other process that cannot be gone
// meanwhile.
func Open(pid int) (*Handle, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &Handle{PID: pid, file: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// ErrGone says that a process that was known is no more.
var ErrGone = errors.New("the process is gone")

// Find returns the process of an identity, or [ErrGone]: that a process has its
// pid proves nothing.
func Find(id Identity) (*Handle, error) {
	if id.PID <= 0 {
		return nil, ErrGone
	}
	h, err := Open(id.PID)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	// The handle was there first: what is read now is of its process, or of
	// nobody that it still can signal.
	if now, err := Identify(id.PID); err != nil || now != id || h.ended() {
		return nil, errors.Join(ErrGone, h.Close())
	}
	return h, nil
}

// ended says whether it has exited.
func (h *Handle) ended() bool {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	err = raw.Control(func(fd uintptr) { ended = readable(fd) })
	return err != nil || ended
}

func readable(fd uintptr) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n == 1
}

// Wait returns nil when the process has exited, which leaves a child unreaped,
// and an error when the handle was closed.
func (h *Handle) Wait() error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(readable)
}

// WaitFor says whether it exited before ctx was done.
func (h *Handle) WaitFor(ctx context.Context) bool {
	stop := context.AfterFunc(ctx, func() { _ = h.file.SetReadDeadline(time.Now()) }) // ends the wait below
	defer stop()
	return h.Wait() == nil || h.ended()
}

// pidfdGroup makes pidfd_send_signal address the process's group.
const pidfdGroup = 1 << 2

// Signal signals the process.
func (h *Handle) Signal(sig syscall.Signal) error { return h.send(sig, 0) }

// SignalGroup signals the process group that it leads. It does nothing once the
// process is gone: the number may be another's.
func (h *Handle) SignalGroup(sig syscall.Signal) error {
	err := h.send(sig, pidfdGroup)
	if errors.Is(err, unix.EINVAL) && !h.ended() { // a kernel before 6.9
		if err = syscall.Kill(-h.PID, sig); errors.Is(err, syscall.ESRCH) {
			err = nil
		}
	}
	return err
}

func (h *Handle) send(sig syscall.Signal, flags int) error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, flags) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

// Close lets go of the handle; the process is not touched.
func (h *Handle) Close() error { return h.file.Close() }

// Exit is how a child ended.
type Exit struct {
	Known  bool // not of a process that was no child
	Code   int
	Signal syscall.Signal // 0 when it ended by itself
}

// ExitOf is how a child that has been reaped ended.
func ExitOf(state *os.ProcessState) Exit {
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return Exit{}
	case status.Signaled():
		return Exit{Known: true, Signal: status.Signal()}
	}
	return Exit{Known: true, Code: status.ExitStatus()}
}

// String says it as a person would.
func (e Exit) String() string {
	switch {
	case !e.Known:
		return "ended"
	case e.Signal != 0:
		return "was killed by " + unix.SignalName(e.Signal)
	}
	return fmt.Sprintf("exited with code %d", e.Code)
}
