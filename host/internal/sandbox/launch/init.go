package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// initRefused is how pid 1 ends when it has sent a StageError.
const initRefused = 100

func runInit(c Control) int {
	p := pid1{control: c}
	if err := p.run(); err != nil {
		_ = c.Send(refusal(err)) // the host may be gone, and then nobody asks
		return initRefused
	}
	return 0
}

// pid1 is the init of one sandbox.
type pid1 struct {
	control Control
	plan    *Plan
	denied  deniedCalls
	phases  map[string]int64
}

func (p *pid1) run() (err error) {
	p.phases = map[string]int64{"init": now()}
	signal.Notify(make(chan os.Signal, 1)) // a command may send pid 1 what it likes; ignoring would be inherited
	unix.CloseOnExec(p.control.FD)
	unix.CloseOnExec(planFD)
	go func() {
		waitForHangUp(p.control.FD)
		os.Exit(1) // and with pid 1 the whole namespace
	}()
	if p.plan, err = readPlan(); err != nil {
		return at("plan", err)
	}
	if err := unix.CloseRange(treesFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return at("descriptors", err)
	}
	p.plan.passedFrom(p.plan.PassedFD)
	stage, err := p.startExec(planFD)
	if err != nil {
		return at("exec stage", err)
	}
	if err := prctl(unix.PR_SET_DUMPABLE, 0); err != nil {
		return at("dumpable", err)
	}
	upper, err := buildRoot(p.plan)
	if err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return at("loopback", err)
	}
	if p.plan.Proxied {
		if err := forward(); err != nil {
			return at("proxy", err)
		}
	}
	CloseAll(p.plan.passed)
	p.phases["root"] = now()
	return p.supervise(stage, upper, everything)
}

// execStage is the process that becomes the command.
type execStage struct {
	pid   int
	goOn  *os.File // closed to stop the stage, written to for it to go on
	words Control  // what the stage says until it has become the command
}

// startExec starts the last stage early, so that its runtime comes up while the
// root is being built, and while its program can still be found.
func (p *pid1) startExec(plan uintptr) (*execStage, error) {
	ready, goOn, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close() //nolint:errcheck // the stage has its own
	words, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(words[1]) //nolint:errcheck // the stage has its own
	files := []uintptr{0, 1, 2, noFD, plan, ready.Fd(), uintptr(words[1])}
	for _, fd := range p.plan.passed {
		files = append(files, uintptr(fd))
	}
	pid, err := syscall.ForkExec(selfPath, []string{"sop-sandbox", "exec"}, &syscall.ProcAttr{
		Env: lightly, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return nil, err
	}
	for fd := range 3 { // or a command that closes its output would not end it
		if err := unix.Dup3(int(plan), fd, unix.O_CLOEXEC); err != nil {
			return nil, err
		}
	}
	return &execStage{pid: pid, goOn: goOn, words: Control{words[0]}}, nil
}

// noFD leaves a descriptor of a child closed.
const noFD = ^uintptr(0)

// everything is, to kill, all that pid 1 of a namespace can see.
const everything = -1

// supervise lets the command begin and returns when nothing is left of it. What
// is left when the command has ended is killed as rest.
func (p *pid1) supervise(stage *execStage, upper, rest int) error {
	debug.SetGCPercent(100) // what was built is built; a run may be long
	if err := p.sendReady(upper); err != nil {
		return at("control", err)
	}
	if _, err := stage.goOn.Write([]byte{1}); err != nil {
		return at("exec stage", err)
	}
	listener, err := p.hear(stage.words)
	if err != nil {
		return err
	}
	done := Message{Kind: KindExited, Phases: map[string]int64{"command": now()}}
	var listening sync.WaitGroup
	if listener >= 0 {
		listening.Go(func() { p.denied.serve(listener) })
	}
	stop := make(chan struct{})
	if p.plan.MemoryBytesUncounted() {
		listening.Go(func() { p.watchMemory(stop) })
	}
	if err := waitForAll(stage.pid, rest, &done); err != nil {
		return at("wait", err)
	}
	close(stop)
	listening.Wait()
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

// waitForAll reaps until the command is dead, kills the rest, and reaps until
// there is nothing left.
func waitForAll(command, rest int, done *Message) error {
	if rest == everything && os.Getpid() != 1 {
		return errors.New("only pid 1 may kill everything")
	}
	ended := false
	for {
		var status unix.WaitStatus
		var pid int
		err := retry(func() (err error) {
			pid, err = unix.Wait4(-1, &status, 0, nil)
			return err
		})
		if errors.Is(err, unix.ECHILD) && ended {
			return usage(done)
		}
		if err != nil {
			return err
		}
		if ended && rest != everything {
			killChildren()
		}
		if pid != command || !status.Exited() && !status.Signaled() {
			continue
		}
		ended = true
		done.Exit = status.ExitStatus()
		if status.Signaled() {
			done.Signal = int(status.Signal())
		}
		if err := unix.Kill(rest, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill the rest: %w", err)
		}
		if rest != everything {
			killChildren()
		}
	}
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
