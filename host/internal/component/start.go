package component

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/sdk"
)

// Variables by which what a component started is found again where no cgroup
// holds it: the owner of all components of one data directory, and one instance.
const (
	ownerVariable    = "SOP_COMPONENT_OWNER"
	instanceVariable = "SOP_COMPONENT_INSTANCE"
)

// bringUp brings a process of the unit up to ready, or says why not.
func (u *unit) bringUp() {
	u.mu.Lock()
	spec, number, restart, found := u.spec, u.number+1, u.recovering, u.found
	u.found, u.retryAt, u.renew = nil, time.Time{}, false
	ctx, cancel := context.WithCancel(u.s.ctx)
	u.number, u.endStart = number, cancel
	if restart {
		u.restarts++
	}
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		u.endStart = nil
		u.mu.Unlock()
		u.s.changed.Tell() // who stops it waits for that, too
		cancel()
	}()
	release := u.hold(spec)
	if found != nil {
		u.takeBack(found, number, release)
		return
	}
	i, err := u.start(ctx, spec, number, restart)
	if i == nil {
		u.startFailed(ctx, number, err)
		release()
		return
	}
	i.release = release
	u.step(Event{Instance: number, Phase: PhaseWaiting, PID: i.handle.PID, Detail: string(spec.Readiness.Kind)}, func() {
		u.instance = i
		u.setLocked(StateWaiting, "")
	})
	if err := u.awaitReady(ctx, i); err != nil {
		u.startFailed(ctx, number, u.end(i, spec.StopGrace, err))
		release()
		return
	}
	u.serve(i)
}

// start starts the process. It returns no instance with an error.
func (u *unit) start(ctx context.Context, spec *Spec, number int, restart bool) (*instance, error) {
	u.enter(StateQueued, Event{Instance: number, Phase: PhaseQueued, After: spec.DependsOn})
	if err := u.awaitDependencies(ctx, spec, restart); err != nil {
		return nil, err
	}
	if err := u.s.opt.Halted(); err != nil {
		return nil, err
	}
	u.enter(StateStarting, Event{Instance: number, Phase: PhaseVerifying})
	path, err := u.s.verify(spec)
	if err != nil {
		return nil, err
	}
	u.enter(StateStarting, Event{Instance: number, Phase: PhaseStarting})
	return u.launch(spec, path, number)
}

// verify finds the program and says what keeps it from being started.
func (s *Supervisor) verify(spec *Spec) (path string, err error) {
	if info, err := os.Stat(spec.Dir); err != nil || !info.IsDir() {
		return "", sdk.Errorf(codes.FailedPrecondition, ReasonCommand, "component %s: its dir %s is not a directory", spec.Name, spec.Dir).
			WithRemedy("create it, or correct `dir`")
	}
	path, err = exec.LookPath(spec.Command)
	if err != nil {
		return "", sdk.Errorf(codes.FailedPrecondition, ReasonCommand, "component %s cannot be executed: %w", spec.Name, err).
			WithRemedy("install %s so that the user that runs sop may execute it, or correct `command`", spec.Command)
	}
	return path, nil
}

// launch starts the process with its cgroup, output and notify socket, each step
// recorded before it is taken.
func (u *unit) launch(spec *Spec, path string, number int) (_ *instance, err error) {
	i := &instance{spec: spec, identity: spec.identity(), number: number, id: newID(), exited: make(chan struct{}), startedAt: time.Now()}
	var undo []func() error
	defer func() {
		if err != nil {
			for _, f := range undo {
				err = errors.Join(err, f())
			}
		}
	}()
	if i.confined, err = u.s.confine(spec, number); err != nil {
		return nil, err
	}
	undo = append(undo, func() error { return i.confined.remove() })
	i.record = newRecord(u.s.opt.Dir, i)
	undo = append(undo, i.record.remove)
	if err := i.record.write(); err != nil {
		return nil, hostFailed(u.name, err)
	}
	in, out, err := i.record.openOutput()
	if err != nil {
		return nil, hostFailed(u.name, err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if i.reader, err = u.log.read(in, spec.Readiness); err != nil {
		return nil, err
	}
	undo = append(undo, func() error { i.reader.finish(); return nil })
	if spec.Readiness.Kind == ProbeNotify {
		if i.notify, err = listenNotify(i.record.notifyPath()); err != nil {
			return nil, hostFailed(u.name, err)
		}
		undo = append(undo, func() error { i.notify.close(); return nil })
	}
	if err := u.fork(i, path, out); err != nil {
		return nil, err
	}
	go i.watch()
	return i, nil
}

// fork starts the process itself and records which one it is.
func (u *unit) fork(i *instance, path string, out *os.File) error {
	req := process.Request{
		Path: path, Argv: append([]string{i.spec.Command}, i.spec.Args...), Env: u.s.environment(i), Dir: i.spec.Dir,
		Files: []*os.File{nil, out, out}, Group: i.confined.group, Outlives: i.spec.Survives,
	}
	begin := func() (*os.Process, error) { return u.s.launchIn(i, req) }
	if i.spec.Sandbox != nil {
		begin = func() (*os.Process, error) { return u.forkIsolated(i, path, req) }
	}
	child, err := begin()
	if err != nil {
		return launchRefused(i.spec, err)
	}
	i.child = child
	handle, err := process.Open(child.Pid)
	if err == nil {
		i.handle = handle
		err = i.record.started(child.Pid)
	}
	if err != nil {
		_ = process.SignalGroup(child.Pid, syscall.SIGKILL) // it is unreaped
		_, waitErr := child.Wait()
		return hostFailed(u.name, errors.Join(err, waitErr))
	}
	return nil
}

// launchIn starts a process in its cgroup; where it cannot be placed there, and
// no limit was asked for, it is started without.
func (s *Supervisor) launchIn(i *instance, req process.Request) (*os.Process, error) {
	child, _, err := s.launcher.Start(req)
	var place *cgroup.PlaceError
	if !errors.As(err, &place) {
		return child, err
	}
	if i.spec.Limits != (cgroup.Limits{}) {
		return nil, limitsRefused(i.spec, err)
	}
	i.confined = confinement{refused: errors.Join(err, i.confined.remove()).Error()}
	i.record.Cgroup, req.Group = "", nil
	child, _, err = s.launcher.Start(req)
	return child, err
}

// environment is all that the component sees: what its configuration names, PATH,
// and what tells it where to say that it is ready.
func (s *Supervisor) environment(i *instance) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	env = append(env, i.spec.Env...)
	env = append(env, s.marks(i)...)
	if i.notify != nil {
		env = append(env, "NOTIFY_SOCKET="+i.notify.address)
	}
	return env
}

// marks are the variables by which its processes are found again.
func (s *Supervisor) marks(i *instance) []string {
	return []string{ownerVariable + "=" + s.owner, instanceVariable + "=" + i.id}
}

// launchRefused says why the kernel would not run the program.
func launchRefused(spec *Spec, err error) *sdk.Error {
	var known *sdk.Error
	if errors.As(err, &known) {
		return known
	}
	return launchRefusedAs(spec, err)
}

// launchRefusedAs is [launchRefused] of an error that has no reason yet.
func launchRefusedAs(spec *Spec, err error) *sdk.Error {
	e := sdk.Errorf(codes.FailedPrecondition, ReasonLaunch, "start component %s: %w", spec.Name, err)
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		e.Reason, e.Remedy = ReasonCommand, "install a program for this machine, or give the script a #! line"
	case errors.Is(err, syscall.ENOENT):
		e.Reason, e.Remedy = ReasonCommand, "install the interpreter or dynamic loader that the program names"
	case errors.Is(err, syscall.EACCES):
		e.Reason, e.Remedy = ReasonCommand, "let the user that runs sop execute it, and check that its file system is not mounted noexec"
	}
	return e
}

// newID returns what no other instance has.
func newID() string {
	id := make([]byte, 12)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

// exitFailure says that a process ended when it should not have.
func (u *unit) exitFailure(i *instance, exit process.Exit, when string) *sdk.Error {
	if i.outOfMemory.Load() && (exit.Signal == syscall.SIGKILL || !exit.Known) {
		e := &sdk.Error{
			Code: codes.Unavailable, Reason: ReasonOutOfMemory, Retryable: true,
			Message: fmt.Sprintf("component %s was killed by the kernel for want of memory", u.name),
			Remedy:  "raise limits.memory in the component's block, or give it less to do",
		}
		return e
	}
	message := fmt.Sprintf("component %s %s%s", u.name, exit, when)
	if words := u.log.lastWords(); words != "" {
		message += "; it last said: " + words
	}
	e := &sdk.Error{
		Code: codes.Unavailable, Reason: ReasonExited, Retryable: true, Message: message,
		Remedy: "see `sop component logs " + u.name + "`",
	}
	if exit.Known && exit.Code == 0 && exit.Signal == 0 && strings.Contains(when, "before") {
		e.Remedy += "; a program that puts itself into the background must be told to stay in the foreground"
	}
	return e
}
