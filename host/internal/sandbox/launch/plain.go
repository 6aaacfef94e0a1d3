package launch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// launchPlain starts a command without namespaces: at landlock under a domain
// and a filter, at none under neither. The launcher stands in for pid 1. At
// landlock the filter keeps all processes in one group, which dies as one; at
// none they may leave it, and are killed as they come to the launcher when
// their parents die.
func launchPlain(c Control, plan *Plan, cgroup int) error {
	if abi := landlockABI(); plan.Level == LevelLandlock && abi < leastPlainABI {
		return at("landlock", fmt.Errorf("version %d; %d is needed to keep signals and sockets in: %w", abi, leastPlainABI, unix.ENOSYS))
	}
	if err := prctl(unix.PR_SET_CHILD_SUBREAPER, 1); err != nil {
		return at("subreaper", err)
	}
	if plan.passedFD(PassedPatch) > 0 {
		return at("patch", errors.New("it is for a view, not for a copy"))
	}
	p := pid1{control: c, plan: plan, phases: map[string]int64{"init": now()}}
	if err := p.sendReady(-1); err != nil {
		return at("control", err)
	}
	stage, err := p.startExec(cgroup)
	if err != nil {
		return at("exec stage", err)
	}
	p.rest = -stage.pid
	if err := p.follow(stage); err != nil {
		_ = unix.Kill(p.rest, unix.SIGKILL) // they may be gone
		return err
	}
	return nil
}

// killChildren kills what has come to the launcher from parents that are dead.
func killChildren() {
	var proc procReader
	me := os.Getpid()
	for _, field := range bytes.Fields(proc.read(me, "task/"+strconv.Itoa(me)+"/children")) {
		if pid := number(field); pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL) // a child of ours, which is not reaped yet
		}
	}
}

// leastPlainABI is the landlock that a sandbox without namespaces takes: the
// first that scopes signals and abstract sockets.
const leastPlainABI = 6

// namespaced says whether the command gets a root and namespaces of its own.
func (p *Plan) namespaced() bool { return p.Level == LevelStrict || p.Level == LevelNSNoProc }

// plainPolicy is for a command that sees the host's network, processes and
// sockets: it may not open the first at all, and may not leave its group.
//
// A service may listen on stream sockets with a path, which lead nowhere by
// themselves; sockets of other types could send without connecting.
func plainPolicy(plan *Plan, p policy) policy {
	stream := &check{arg: 1, mask: socketType, in: []uint32{unix.SOCK_STREAM}}
	for i := range p.checked {
		switch c := &p.checked[i]; {
		case c.call == unix.SYS_SOCKETPAIR:
			c.then = stream
		case c.call == unix.SYS_SOCKET && plan.Serves:
			c.in, c.then = []uint32{unix.AF_UNIX}, stream
		case c.call == unix.SYS_SOCKET:
			c.in = []uint32{^uint32(0)} // no family
		}
	}
	var kept []uintptr
	for _, call := range p.allow {
		if call == unix.SYS_BIND && plan.Serves {
			kept = append(kept, call)
			continue
		}
		switch call {
		case unix.SYS_SETSID, unix.SYS_SETPGID, unix.SYS_CONNECT, unix.SYS_BIND,
			unix.SYS_SEMGET, unix.SYS_MSGGET, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK,
			unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL:
		default:
			kept = append(kept, call)
		}
	}
	p.allow = kept
	return p
}

// socketType is the part of a socket's type that is no flag.
const socketType = 0xf

// plainNames are denied on purpose, beside deniedNames, where there are no
// namespaces.
var plainNames = map[uintptr]string{
	unix.SYS_SETSID: "setsid", unix.SYS_SETPGID: "setpgid", unix.SYS_CONNECT: "connect", unix.SYS_BIND: "bind",
	unix.SYS_SEMGET: "semget", unix.SYS_MSGGET: "msgget", unix.SYS_MQ_OPEN: "mq_open", unix.SYS_MQ_UNLINK: "mq_unlink",
}

// becomeSandboxUser changes this thread's ids from root's to the sandbox's. The
// securebits leave the capabilities as they are; they go next.
func becomeSandboxUser(plan *Plan) error {
	if err := errors.Join(takeGroups(), takeIDs(plan)); err != nil {
		return err
	}
	return prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)) // a change of ids clears it
}

// takeGroups leaves this thread in no group but its own.
func takeGroups() error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return fmt.Errorf("setgroups: %w", errno)
	}
	return nil
}

// takeIDs gives this thread the ids of the command.
func takeIDs(plan *Plan) error {
	gid, uid := uintptr(plan.GID), uintptr(plan.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("setresgid: %w", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("setresuid: %w", errno)
	}
	return nil
}
