package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/host/internal/scratch"
)

// A Spec says what to run.
type Spec struct {
	Profile   Profile
	Workspace string   // a directory; the command sees a copy-on-write view of it
	Argv      []string // looked up in the sandbox
	Env       []string // SOP_NAME=value only; the rest is made
	Stdin     []byte
	// Dir is where the command starts, relative to the workspace.
	Dir string
	// Settings are NAME=value as Env, of any name but those that decide which
	// program runs: what the host's configuration or the host itself says.
	Settings []string
	// Inputs are shown read-only.
	Inputs []Input
	// Protected names files of the workspace that the command finds as the
	// workspace has them, read-only, whatever Patch says. It takes a level with
	// namespaces.
	Protected []string
	// Patch is made in the view before anything runs; nil for nothing. What it
	// replaces must be as its set says, or the run fails with [ErrConflict].
	// The changes of the outcome are against the workspace, the patch included.
	Patch *Patch
	// Service is set where the command is one that the host talks to.
	Service *Service
}

// A Runner runs commands in sandboxes. It may be used by several goroutines, and
// keeps a process between runs until it is closed or its process ends.
type Runner struct {
	Launcher string       // path of sop-sandbox; see CheckLauncher
	Cgroups  *cgroup.Tree // where each run gets a group; nil for none

	seed seed
}

// An Outcome is a run that is over. It must be closed.
type Outcome struct {
	Result

	upper     *os.File     // of the overlay, or the private copy; nil where nothing was run
	private   *scratch.Dir // of a private copy; nil where there is none
	workspace *os.Root
}

// Close gives up what the run has left behind. It may be called twice.
func (o *Outcome) Close() error {
	var errs []error
	if o.upper != nil {
		errs = append(errs, o.upper.Close())
		o.upper = nil
	}
	errs = append(errs, o.private.Close())
	if o.workspace != nil {
		errs = append(errs, o.workspace.Close())
		o.workspace = nil
	}
	return errors.Join(errs...)
}

// Run runs one command and returns when nothing of it is alive any longer. When
// ctx is done the run is killed. An error says that the request made no sense
// or that the host could not do its part; that the sandbox could not be had is
// no error but a Result, with the status Refused.
func (r *Runner) Run(ctx context.Context, spec Spec) (*Outcome, error) {
	spec.Profile.Limits = spec.Profile.Limits.OrDefault()
	if err := spec.validate(); err != nil {
		return nil, err
	}
	path, err := realDirectory(spec.Workspace)
	if err != nil {
		return nil, err
	}
	workspace, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	if err := spec.Patch.check(workspace); err != nil {
		return nil, errors.Join(err, workspace.Close())
	}
	a := attempt{runner: r, spec: &spec, started: time.Now(), out: &Outcome{workspace: workspace}}
	if err := a.run(ctx, path); err != nil {
		return nil, errors.Join(err, a.out.Close())
	}
	return a.out, nil
}

func realDirectory(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// maxArguments bounds what is sent to the launcher in one packet.
const maxArguments = 128 << 10

func (s *Spec) validate() error {
	size := 0
	for _, text := range append(append([]string(nil), s.Argv...), s.Env...) {
		size += len(text) + 1
	}
	switch {
	case len(s.Argv) == 0 || s.Argv[0] == "":
		return errors.New("there is no command to run")
	case size > maxArguments:
		return fmt.Errorf("arguments and environment are %d bytes, over the limit of %d: use standard input", size, maxArguments)
	}
	return s.Profile.Validate()
}

// An attempt is one call of Run.
type attempt struct {
	runner  *Runner
	spec    *Spec
	started time.Time
	out     *Outcome
	own     Places

	launcher *launcherProcess
	group    *cgroup.Group // nil where there is none
	pidfd    int           // of pid 1 of the sandbox; 0 while there is none
	reported bool
	way      *wayOut // nil where there is no network
}

func (a *attempt) run(ctx context.Context, workspace string) (err error) {
	a.makeGroup()
	defer func() { err = errors.Join(err, a.closeGroup(ctx)) }()
	refused, err := a.prepare(ctx)
	if err != nil || refused {
		return err
	}
	plan, err := newPlan(a.spec, workspace, a.own, a.out.Counted)
	if err != nil {
		return err
	}
	if refused, err := a.openNetwork(ctx, plan); err != nil || refused {
		return err
	}
	defer func() { err = errors.Join(err, a.closeNetwork()) }()
	passed, made, err := a.passed(plan)
	if err != nil {
		return err
	}
	defer func() {
		for _, file := range made {
			err = errors.Join(err, file.Close())
		}
	}()
	if a.launcher, err = startLauncher(a.runner, a.spec, a.group); err != nil {
		return err
	}
	defer func() {
		if a.pidfd > 0 {
			err = errors.Join(err, unix.Close(a.pidfd))
		}
	}()
	if err := a.sendPlan(plan, passed); err != nil {
		return errors.Join(fmt.Errorf("launcher: %w", err), a.launcher.abandon())
	}
	a.follow(ctx)
	a.finish()
	if a.out.private == nil && a.out.Status == Exited && a.out.Exit != 0 {
		a.out.Notes = append(a.out.Notes, findForeign(ctx, plan, workspace)...)
	}
	return nil
}

// follow goes through the run until all of it is dead.
func (a *attempt) follow(ctx context.Context) {
	wall := time.NewTimer(a.spec.Profile.Limits.Wall)
	defer wall.Stop()
	done, tooMuch := ctx.Done(), a.launcher.tooMuch
	for {
		select {
		case m, more := <-a.launcher.messages:
			if !more {
				return
			}
			a.heard(m)
		case <-done:
			a.end(Canceled, "")
			done = nil
		case <-wall.C:
			a.end(Limited, LimitWall)
		case <-tooMuch:
			a.end(Limited, LimitOutput)
			tooMuch = nil
		}
	}
}

// heard takes over what a stage says.
func (a *attempt) heard(m received) {
	a.phases(m.Phases)
	switch m.Kind {
	case launch.KindStarted:
		a.pidfd = m.take()
		a.out.OwnID = isRoot() && !m.IDMapped
		if a.out.Status != Refused { // ended before it began
			a.kill()
		}
	case launch.KindReady:
		if a.out.private == nil {
			a.out.upper = os.NewFile(uintptr(m.take()), "upper")
		}
		a.out.Level, a.out.LandlockABI = a.spec.Profile.Level, m.LandlockABI
		a.ready(&m)
	case launch.KindLimit:
		a.end(Limited, m.Limit)
	case launch.KindRefused:
		a.refused(m.Message)
	case launch.KindExited:
		a.exited(m.Message)
	}
	launch.CloseAll(m.fds)
}

func (a *attempt) refused(m launch.Message) {
	if a.out.Refusal == nil && a.out.Status == Refused {
		a.out.Refusal = &Refusal{Stage: m.Stage, Errno: m.Errno, Detail: m.Detail}
	}
}

func (a *attempt) exited(m launch.Message) {
	a.reported = true
	a.out.Denied = m.Denied
	a.out.Usage = Usage{User: m.UserUS, System: m.SystemUS, MemoryPeak: m.MaxRSSKB << 10}
	if a.out.Status != Refused {
		return // it was ended from here
	}
	if a.out.Refusal != nil {
		return
	}
	a.out.Status, a.out.Exit = Exited, m.Exit
	if m.Signal == 0 {
		return
	}
	a.out.Status, a.out.Exit = Killed, 128+m.Signal
	a.out.Signal = unix.SignalName(syscall.Signal(m.Signal))
	cpu := time.Duration(m.UserUS+m.SystemUS) * time.Microsecond
	if syscall.Signal(m.Signal) == syscall.SIGXCPU || syscall.Signal(m.Signal) == syscall.SIGKILL && cpu >= a.spec.Profile.Limits.CPU {
		a.limit(LimitCPU)
	}
}

// end kills the run for a reason; the first is the one that counts.
func (a *attempt) end(why Status, limit string) {
	if a.out.Status == Refused && a.out.Refusal == nil {
		a.out.Status = why
	}
	if limit != "" {
		a.out.Limits = append(a.out.Limits, limit)
	}
	a.kill()
}

func (a *attempt) limit(name string) {
	a.out.Status = Limited
	a.out.Limits = append(a.out.Limits, name)
}

// kill ends pid 1 and with it the namespace. Before there is a pid 1 it ends
// the launcher, whose child dies with it.
func (a *attempt) kill() {
	if a.pidfd > 0 {
		_ = unix.PidfdSendSignal(a.pidfd, unix.SIGKILL, nil, 0) // it may be dead
		return
	}
	if a.out.private != nil {
		// The launcher kills the group, and tells what became of it.
		_ = unix.Shutdown(a.launcher.control.FD, unix.SHUT_WR) // it may be closed
		return
	}
	_ = a.launcher.kill() // its messages end
}

// finish makes sure that everything is dead before anybody reads what was left
// behind, and that no run counts as one that did not report.
func (a *attempt) finish() {
	stdout, stderr := a.launcher.finish()
	a.out.Stdout, a.out.Stderr = stdout.output(), stderr.output()
	if a.pidfd > 0 && !isDead(a.pidfd) {
		a.lose("pid 1 of the sandbox is still alive")
	}
	ended := a.out.Status == Limited || a.out.Status == Canceled
	if a.out.Status == Refused && a.out.Refusal == nil || !a.reported && !ended && a.out.Refusal == nil {
		a.lose("the sandbox ended without a word")
	}
	if a.out.Status == Refused {
		a.out.Level = ""
	}
	a.phases(map[string]int64{"done": time.Now().UnixMicro()})
}

func (a *attempt) lose(why string) {
	a.out.Status = Lost
	a.out.Notes = append(a.out.Notes, why)
}

// isDead waits until the process is gone, with everything in its namespace.
func isDead(pidfd int) bool {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	deadline := time.Now().Add(deathTimeout)
	for {
		n, err := unix.Poll(poll, int(max(0, time.Until(deadline)).Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n == 1 && err == nil
		}
	}
}

func (a *attempt) phases(reached map[string]int64) {
	for name, at := range reached {
		if a.out.Phases == nil {
			a.out.Phases = make(map[string]time.Duration)
		}
		a.out.Phases[name] = time.UnixMicro(at).Sub(a.started)
	}
}

// output is what a capture holds, fit to be shown.
func (c *capture) output() Output {
	return Output{Text: string(bytes.ToValidUTF8(c.kept.Bytes(), []byte("�"))), Bytes: c.total, Truncated: c.total > int64(c.kept.Len())}
}
