package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// initRefused is how pid 1 ends when it has sent a StageError.
const initRefused = 100

func runInit(c Control, plan *Plan, gate int) int {
	p := pid1{control: c, plan: plan, phases: map[string]int64{}}
	if err := p.run(gate); err != nil {
		_ = c.Send(refusal(err)) // the host may be gone, and then nobody asks
		return initRefused
	}
	return 0
}

// pid1 is the init of one sandbox, or, where there are no namespaces, the
// launcher in its stead. It has one thread, which waits for everything at once.
type pid1 struct {
	control Control
	plan    *Plan
	phases  map[string]int64

	command  int           // its process
	rest     int           // what to kill when the command has ended
	ended    bool          // the command has
	host     int           // the host's end is watched by this; -1 when it was seen to close
	children int           // a descriptor that tells of ended ones
	denied   deniedCalls   // of no listener where there can be none
	forward  *forwarder    // nil where there is no way out
	memory   memoryWatch   // of no interval where a cgroup counts
	poll     []unix.PollFd // what is waited for
}

func (p *pid1) run(gate int) error {
	if n, err := unix.Read(gate, make([]byte, 1)); n != 1 {
		return at("namespaces", orElse(err, "the launcher gave up"))
	}
	p.phases["init"] = now()
	if err := becomeInit(p.plan, gate); err != nil {
		return at("namespaces", err)
	}
	upper, err := buildRoot(p.plan)
	if err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return at("loopback", err)
	}
	if p.plan.Proxied {
		if p.forward, err = newForwarder(); err != nil {
			return at("proxy", err)
		}
	}
	p.phases["root"] = now()
	p.rest = everything
	return p.supervise(upper)
}

// becomeInit takes the ids and the capabilities of pid 1. Who began before its
// launcher died does not begin: the gate would have no other end.
func becomeInit(plan *Plan, gate int) error {
	if err := prctl(unix.PR_SET_KEEPCAPS, 1); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if plan.Root {
		if err := takeGroups(); err != nil {
			return err
		}
	}
	if err := takeIDs(plan); err != nil {
		return err
	}
	var caps [2]unix.CapUserData
	for _, c := range initCaps {
		caps[c/32].Effective |= 1 << (c % 32)
		caps[c/32].Permitted |= 1 << (c % 32)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &caps[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	// A change of ids clears the first, and the host's right to look is the second.
	if err := errors.Join(prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)), prctl(unix.PR_SET_DUMPABLE, 0)); err != nil {
		return err
	}
	poll := []unix.PollFd{{Fd: int32(gate)}}
	if _, err := unix.Poll(poll, 0); err != nil || poll[0].Revents != 0 {
		return orElse(err, "the launcher is gone")
	}
	return nil
}

// execStage is the process that becomes the command.
type execStage struct {
	pid   int
	words Control // what it says until it has become the command
}

// startExec makes the last stage. cgroup is where it begins, 0 for here.
func (p *pid1) startExec(cgroup int) (*execStage, error) {
	words, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	parent := os.Getpid()
	pid, pidfd, err := fork(0, cgroup)
	if pid == 0 {
		CloseAll(words[:1])
		syscall.Exit(runExec(p.plan, parent, Control{words[1]}))
	}
	CloseAll(words[1:])
	if err != nil {
		return nil, err
	}
	CloseAll([]int{pidfd})
	CloseAll(p.plan.passed)
	for fd := range 3 { // or a command that closes its output would not end it
		if err := unix.Dup3(words[0], fd, unix.O_CLOEXEC); err != nil {
			return nil, err
		}
	}
	return &execStage{pid: pid, words: Control{words[0]}}, nil
}

// everything is, to kill, all that pid 1 of a namespace can see.
const everything = -1

// supervise tells the host that all is in force, makes the last stage, and
// returns when nothing is left of it.
func (p *pid1) supervise(upper int) error {
	if err := p.sendReady(upper); err != nil {
		return at("control", err)
	}
	stage, err := p.startExec(0)
	if err != nil {
		return at("exec stage", err)
	}
	return p.follow(stage)
}

// follow returns when nothing is left of the last stage and what it became.
func (p *pid1) follow(stage *execStage) (err error) {
	if p.rest == everything && os.Getpid() != 1 {
		return at("wait", errors.New("only pid 1 may kill everything"))
	}
	p.command, p.host = stage.pid, p.control.FD
	if p.children, err = childrenFD(); err != nil {
		return at("wait", err)
	}
	if p.denied.listener, err = p.hear(stage.words); err != nil {
		return err
	}
	done := Message{Kind: KindExited, Phases: map[string]int64{"command": now()}}
	if p.plan.MemoryBytesUncounted() {
		p.memory = memoryWatch{most: p.plan.Limits.MemoryBytes, next: time.Now()}
	}
	if err := p.waitForAll(&done); err != nil {
		return at("wait", err)
	}
	done.Denied = p.denied.list()
	done.Phases["ended"] = now()
	return at("control", p.control.Send(done))
}

// sendReady passes the upper directory out, where there is one, and that of a
// service's sockets.
func (p *pid1) sendReady(upper int) error {
	ready := Message{Kind: KindReady, Phases: p.phases}
	if p.plan.Level != LevelNone {
		ready.LandlockABI = landlockABI()
	}
	if upper < 0 {
		return p.control.Send(ready)
	}
	out := []int{upper}
	if p.plan.socketsDir > 0 {
		out = append(out, p.plan.socketsDir)
	}
	err := p.control.Send(ready, out...)
	CloseAll(out)
	return err
}

// hear listens to the last stage until it has become the command.
func (p *pid1) hear(words Control) (listener int, err error) {
	listener = -1
	for {
		var m Message
		fds, err := words.Receive(&m)
		switch {
		case errors.Is(err, io.EOF):
			return listener, unix.Close(words.FD)
		case err != nil:
			return -1, at("exec stage", err)
		case len(fds) == 1 && listener < 0:
			listener = fds[0]
		default:
			CloseAll(fds)
		}
		if m.Kind == KindRefused {
			return -1, &StageError{m.Stage, m.cause()}
		}
	}
}

// cause is the error that a refusal tells of.
func (m *Message) cause() error {
	if m.Errno != 0 && m.Detail == m.Errno.Error() {
		return m.Errno
	}
	if m.Errno != 0 {
		return &told{m.Detail, m.Errno}
	}
	return errors.New(m.Detail)
}

// told is an error that arose in another process.
type told struct {
	text  string
	errno syscall.Errno
}

// Error implements error.
func (t *told) Error() string { return t.text }

// Unwrap returns the system's error.
func (t *told) Unwrap() error { return t.errno }

// childrenFD returns a descriptor that can be read from when a child has ended.
func childrenFD() (int, error) {
	var set unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGCHLD - 1)
	return unix.Signalfd(-1, &set, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK)
}

// waitForAll reaps until the command is dead, kills the rest, and reaps until
// there is nothing left. Meanwhile it does whatever else pid 1 is there for.
func (p *pid1) waitForAll(done *Message) error {
	p.poll = make([]unix.PollFd, 0, 3+maxPolled)
	for {
		if over, err := p.reap(done); over || err != nil {
			return err
		}
		p.poll = append(p.poll[:0],
			unix.PollFd{Fd: int32(p.children), Events: unix.POLLIN},
			unix.PollFd{Fd: int32(p.host), Events: unix.POLLRDHUP},
			unix.PollFd{Fd: int32(p.denied.listener), Events: unix.POLLIN})
		p.poll = p.forward.wants(p.poll)
		if _, err := unix.Poll(p.poll, p.memory.wait()); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if p.poll[0].Revents != 0 {
			p.forgetSignals()
		}
		if p.poll[1].Revents != 0 {
			p.hostIsGone()
		}
		p.denied.answer(p.poll[2].Revents)
		p.forward.carry(p.poll[3:])
		if p.memory.isExceeded() {
			p.overMemory()
		}
	}
}

// forgetSignals empties what told of ended children.
func (p *pid1) forgetSignals() {
	var buffer [256]byte
	_, _ = unix.Read(p.children, buffer[:]) // it tells, and whom it tells of is asked elsewhere
}

// hostIsGone ends pid 1, and with it the whole namespace. Without one it ends the
// command; a host that has only given up is told what became of it.
func (p *pid1) hostIsGone() {
	if p.rest == everything {
		syscall.Exit(1)
	}
	_ = unix.Kill(p.rest, unix.SIGKILL) // they may be gone
	p.host = -1                         // which poll passes over
}

// reap takes note of the children that have ended, and says whether there will
// be no more.
func (p *pid1) reap(done *Message) (over bool, err error) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD) && p.ended:
			return true, usage(done)
		case err != nil || pid == 0:
			return false, err
		}
		if p.ended && p.rest != everything {
			killChildren()
		}
		if pid == p.command && (status.Exited() || status.Signaled()) {
			if err := p.commandEnded(status, done); err != nil {
				return false, err
			}
		}
	}
}

func (p *pid1) commandEnded(status unix.WaitStatus, done *Message) error {
	p.ended = true
	done.Exit = status.ExitStatus()
	if status.Signaled() {
		done.Signal = int(status.Signal())
	}
	if err := unix.Kill(p.rest, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill the rest: %w", err)
	}
	if p.rest != everything {
		killChildren()
	}
	return nil
}

func usage(done *Message) error {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &used); err != nil {
		return err
	}
	done.UserUS, done.SystemUS = used.Utime.Nano()/1000, used.Stime.Nano()/1000
	done.MaxRSSKB = used.Maxrss
	return nil
}

// loopbackUp gives the empty network its one interface, for commands that talk
// to themselves.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written to it
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// prctl is of this thread only.
func prctl(option int, arg uintptr) error { return unix.Prctl(option, arg, 0, 0, 0) }
