package component

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/sdk"
)

// A component that is killed is started again; what depends on it waits for it
// where it says so, and counts as ready only while it is.
func TestRestart(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	requires := func(s *Spec) { s.RequiresReady = true }
	gate := fifo(t)
	s.start(
		shell("a", "test -e /proc/self/again; read line < "+gate+"; echo up; exec sleep 300", saying("up"), func(s *Spec) { s.Backoff.BreakerFailures = 100 }, onDemand(time.Hour)),
		shell("b", "exec sleep 300", onDemand(time.Hour), after("a"), requires),
	)
	let := func() {
		if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
			t.Fatal(err)
		}
	}
	let()
	release, err := s.Need(t.Context(), "b", "test")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	first := s.status("a").PID
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := s.await("b", StateBlocked); st.Ready || st.Detail != "waits for a" {
		t.Errorf("%+v", st)
	}
	pid := s.status("b").PID
	let()
	if st := s.await("a", StateReady); st.PID == first || st.Restarts != 1 {
		t.Errorf("%+v", st)
	}
	if st := s.await("b", StateReady); st.PID != pid {
		t.Errorf("b was restarted: %+v", st)
	}
}

func TestPolicies(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	policy := func(p RestartPolicy) func(*Spec) {
		return func(s *Spec) { s.RestartPolicy, s.Backoff.BreakerFailures = p, 3 }
	}
	s.start(
		shell("never", "exit 1", policy(RestartNever)),
		shell("clean", "exit 0", policy(RestartOnFailure)),
		shell("after", "exec sleep 300", after("clean")),
		shell("failing", "exit 1", policy(RestartOnFailure), saying("never")),
		shell("always", "exit 0", policy(RestartAlways)),
	)
	for name, want := range map[string]State{"never": StateCompleted, "clean": StateCompleted, "after": StateReady, "failing": StateFailed, "always": StateFailed} {
		s.await(name, want)
	}
	if n := s.status("failing").Instance; n != 3 {
		t.Errorf("the breaker opened at instance %d", n)
	}
	if err := s.StartOne(t.Context(), "failing"); err == nil {
		t.Error("it started")
	}
}

// What does not become ready is given up however long its starts take.
func TestNeverReady(t *testing.T) {
	slow := func(s *Spec) {
		s.StartTimeout, s.StopGrace = 50*time.Millisecond, time.Second
		s.Backoff = process.Backoff{BackoffMin: time.Millisecond, BackoffMax: time.Millisecond, BreakerFailures: 4, BreakerWindow: time.Millisecond}
	}
	s := newSupervisor(t, t.TempDir())
	s.start(shell("never", "exec sleep 300", saying("up"), slow))
	st := s.await("never", StateFailed)
	if st.LastError.Reason != ReasonCrashLoop || st.LastError.Metadata["last_reason"] != ReasonStartTimeout || st.Instance != 4 || !strings.Contains(st.LastError.Message, "4 starts in a row") {
		t.Errorf("%+v: %v", st, st.LastError)
	}
	if err := s.StartOne(t.Context(), "never"); err == nil {
		t.Error("it started")
	}
	s.awaitThat("never", "given up after as many more", func(st Status) bool { return st.State == StateFailed && st.Instance == 8 })
}

// Components on demand come up for a request and with all they depend on, and go
// when nobody needs them.
func TestDemand(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	s.start(
		shell("a", "echo up; exec sleep 300", saying("up"), onDemand(50*time.Millisecond)),
		shell("b", "exec sleep 300", onDemand(50*time.Millisecond), after("a")),
	)
	if st := s.status("b"); st.State != StateIdle {
		t.Fatalf("%+v", st)
	}
	release, err := s.Need(t.Context(), "b", "test")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := s.status("a"), s.status("b"); !a.Ready || !b.Ready || b.Users != 1 || a.Users != 1 {
		t.Errorf("%+v, %+v", a, b)
	}
	release()
	s.await("b", StateIdle)
	s.await("a", StateIdle)
	if _, err := s.Need(t.Context(), "c", "test"); sdk.FromError(err).Reason != ReasonUnknown {
		t.Error(err)
	}
}

// A request that comes while the component stops is neither lost nor answered by
// the instance that stops.
func TestDemandDuringStop(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	gate := fifo(t)
	s.start(shell("a", "trap 'read line < "+gate+"; exit 0' TERM; echo up; while :; do sleep 0.01; done", saying("up"), onDemand(10*time.Millisecond)))
	release, err := s.Need(t.Context(), "a", "test")
	if err != nil {
		t.Fatal(err)
	}
	first := s.status("a").PID
	release()
	s.await("a", StateStopping)
	got := make(chan int, 1)
	go func() {
		release, err := s.Need(t.Context(), "a", "test")
		if err != nil {
			t.Error(err)
			got <- 0
			return
		}
		got <- s.status("a").PID
		release()
	}()
	s.awaitThat("a", "used", func(st Status) bool { return st.Users == 1 })
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if pid := <-got; pid == first || pid == 0 {
		t.Errorf("answered by %d, the first was %d", pid, first)
	}
	s.await("a", StateStopping, StateIdle)
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	s.await("a", StateIdle)
}

// Many come and go while the component starts and stops all the time: each gets
// an instance that lives as long as it is needed.
func TestDemandStorm(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	s.start(shell("a", "echo up; exec sleep 300", saying("up"), onDemand(time.Millisecond)))
	var wg sync.WaitGroup
	var served atomic.Int64
	for range 8 {
		wg.Go(func() {
			for range 20 {
				release, err := s.Need(t.Context(), "a", "test")
				if err != nil {
					t.Error(err)
					return
				}
				if st := s.status("a"); st.State != StateReady || !alive(st.PID) {
					t.Errorf("served by %+v", st)
				}
				served.Add(1)
				release()
				if served.Load()%3 == 0 {
					time.Sleep(3 * time.Millisecond) // lets it go idle now and then
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests by %d instances", served.Load(), s.status("a").Instance)
}

func TestNeedFails(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	s.start(
		shell("bad", "", func(s *Spec) { s.Command = "/no/such" }, onDemand(time.Hour)),
		shell("waits", "exec sleep 300", after("bad"), onDemand(time.Hour)),
		shell("slow", "exec sleep 300", saying("never"), onDemand(time.Hour)),
	)
	if _, err := s.Need(t.Context(), "waits", "test"); sdk.FromError(err).Reason != ReasonFailed {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Need(ctx, "slow", "test"); sdk.FromError(err).Reason != ReasonNotReady || !strings.Contains(err.Error(), "waiting") {
		t.Error(err)
	}
	if _, err := s.Stop(t.Context(), "slow", false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Need(t.Context(), "slow", "test"); sdk.FromError(err).Reason != ReasonStopped {
		t.Error(err)
	}
}

// Who needs a component is named to who would stop it, and told when it is gone for
// more than a moment: each step that says so comes with what it says.
func TestGone(t *testing.T) {
	steps := make(chan Event, 100)
	s := newSupervisor(t, t.TempDir(), func(o *Options) { o.OnEvent = func(e Event) { steps <- e } })
	told := func(name string, phase Phase) {
		t.Helper()
		for {
			select {
			case e := <-steps:
				if e.Name == name && e.Phase == phase {
					return
				}
			case <-time.After(patience):
				t.Fatalf("%s was not told to be %s", name, phase)
			}
		}
	}
	s.start(shell("db", "exec sleep 300"), shell("once", "exec sleep 300", func(s *Spec) { s.RestartPolicy = RestartNever }), shell("idle", "exec sleep 300", onDemand(time.Hour)))
	release, err := s.Need(t.Context(), "db", "protocol scp")
	if err != nil || s.Gone("db") != nil {
		t.Fatalf("%v, %v", err, s.Gone("db"))
	}
	if _, err := s.Stop(t.Context(), "db", false); sdk.FromError(err).Reason != ReasonNeeded || !strings.Contains(err.Error(), "protocol scp") {
		t.Errorf("stopped what is needed: %v", err)
	}
	if _, err := s.Stop(t.Context(), "db", true); err != nil {
		t.Error(err)
	}
	told("db", PhaseStopped)
	if err := s.Gone("db"); sdk.FromError(err).Reason != ReasonStopped {
		t.Errorf("%v", err)
	}
	release()
	if err := s.StartOne(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stop(t.Context(), "db", false); err != nil {
		t.Errorf("nobody needs it any more: %v", err)
	}
	if err := syscall.Kill(s.status("once").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	told("once", PhaseExited)
	if err := s.Gone("once"); sdk.FromError(err).Reason != ReasonFailed {
		t.Errorf("it is not started again: %v", err)
	}
	if _, err := s.Stop(t.Context(), "idle", false); err != nil {
		t.Error(err)
	}
	told("idle", PhaseStopped) // it had no process
	if err := s.Gone("idle"); sdk.FromError(err).Reason != ReasonStopped {
		t.Errorf("%v", err)
	}
}

// Who stops what is being started waits for no longer than it takes to end it.
func TestStopWhileItStarts(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	s.start(shell("slow", "exec sleep 300", saying("never"), onDemand(time.Hour)))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 100 {
		asked, give := context.WithCancel(ctx)
		started := make(chan error, 1)
		go func() { started <- s.StartOne(asked, "slow") }()
		s.awaitThat("slow", "is being started", func(st Status) bool { return st.State == StateWaiting })
		if _, err := s.Stop(ctx, "slow", false); err != nil {
			t.Fatalf("%v: %+v", err, s.status("slow"))
		}
		give()
		if err := <-started; err == nil {
			t.Error("started what was stopped")
		}
	}
}

// What ignores its signal is killed after its grace, and what a component started
// goes with it.
func TestStop(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	s.start(
		shell("base", "exec sleep 300"),
		shell("deaf", "trap '' TERM; (trap '' TERM; while :; do sleep 0.1; done) & echo up; while :; do sleep 0.1; done", saying("up"), after("base"), func(s *Spec) { s.StopGrace = 100 * time.Millisecond }),
		shell("leaves", "setsid sleep 300 & echo $!; exec sleep 300"),
	)
	if _, err := s.Stop(t.Context(), "base", false); sdk.FromError(err).Reason != ReasonNeeded {
		t.Errorf("stopped what is needed: %v", err)
	}
	if first, err := s.Stop(t.Context(), "base", true); err != nil || !slices.Equal(first, []string{"deaf"}) {
		t.Fatalf("%v, %v", first, err)
	}
	if a, b := s.status("base"), s.status("deaf"); a.State != StateStopped || b.State != StateStopped || a.PID+b.PID != 0 {
		t.Errorf("%+v, %+v", a, b)
	}
	s.awaitThat("leaves", "heard", func(st Status) bool { return st.Lines > 0 })
	stray, err := strconv.Atoi(s.unit("leaves").log.lastWords())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stop(t.Context(), "leaves", false); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, stray)
	if err := s.StartOne(t.Context(), "deaf"); sdk.FromError(err).Reason != ReasonFailed || !strings.Contains(err.Error(), "base") { // brings nothing up that is held
		t.Error(err)
	}
	if st := s.status("deaf"); st.State != StateStopped {
		t.Errorf("it was not started, and is %s", st.State)
	}
	if err := s.StartOne(t.Context(), "base"); err != nil {
		t.Error(err)
	}
	if err := s.StartOne(t.Context(), "deaf"); err != nil {
		t.Error(err)
	}
	pid := s.status("base").PID
	if err := s.Restart(t.Context(), "base"); err != nil || s.status("base").PID == pid {
		t.Errorf("%v: %+v", err, s.status("base"))
	}
}

// Everything is dead at once, and stays down until it is let go.
func TestHalt(t *testing.T) {
	var halted atomic.Bool
	stopped := sdk.Errorf(codes.FailedPrecondition, "EMERGENCY_STOPPED", "stopped")
	s := newSupervisor(t, t.TempDir(), func(o *Options) {
		o.Halted = func() error {
			if halted.Load() {
				return stopped
			}
			return nil
		}
	})
	var specs []*Spec
	for n := range 20 {
		specs = append(specs, shell(fmt.Sprintf("c%d", n), "trap '' TERM; setsid sleep 300 & while :; do sleep 1; done"))
	}
	s.start(specs...)
	halted.Store(true)
	begin := time.Now()
	if err := s.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("20 components dead after %v", time.Since(begin))
	if left := owned(s.owner); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := s.Need(t.Context(), "c1", "test"); !errors.Is(err, stopped) {
		t.Error(err)
	}
	if err := s.StartOne(t.Context(), "c1"); !errors.Is(err, stopped) {
		t.Error(err)
	}
	halted.Store(false)
	s.Release()
	s.await("c1", StateReady)
}

// A change is made as a whole, or not at all; what has not changed is not touched.
func TestChange(t *testing.T) {
	s := newSupervisor(t, t.TempDir())
	s.start(shell("same", "exec sleep 300"), shell("changed", "exec sleep 300"), shell("gone", "exec sleep 300", after("same")))
	same, changed := s.status("same").PID, s.status("changed").PID
	next := func(further ...*Spec) []*Spec {
		return append([]*Spec{
			shell("same", "exec sleep 300", func(s *Spec) { s.StopGrace = time.Second }), shell("changed", "exec sleep 301"),
			shell("new", "exec sleep 300", after("changed")),
		}, further...)
	}
	var pe *PrepareError
	if _, err := s.Prepare(t.Context(), next(shell("bad", "", func(s *Spec) { s.Command = "/no/such" }))); !errors.As(err, &pe) || pe.Name != "bad" {
		t.Fatal(err)
	}
	if st := s.status("gone"); st.State != StateReady {
		t.Errorf("%+v", st)
	}
	c, err := s.Prepare(t.Context(), next())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Action{"same": ActionUpdate, "changed": ActionRestart, "gone": ActionStop, "new": ActionStart}
	if fmt.Sprint(c.Actions) != fmt.Sprint(want) {
		t.Errorf("%v", c.Actions)
	}
	c.Commit()
	s.await("new", StateReady)
	if s.status("same").PID != same || s.status("changed").PID == changed || s.unit("gone") != nil {
		t.Errorf("%+v", s.Status())
	}
	// Removed and there again at once: one process at a time.
	for range 3 {
		for _, specs := range [][]*Spec{nil, next()} {
			c, err := s.Prepare(t.Context(), specs)
			if err != nil {
				t.Fatal(err)
			}
			c.Commit()
		}
	}
	s.await("new", StateReady)
	s.await("changed", StateReady)
	s.await("same", StateReady)
	awaitOwned(t, s.owner, 3)
}

// killedHost is a host in a process of its own.
type killedHost struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	status map[string]Status
}

func runHost(t *testing.T, dir string, specs []*Spec) *killedHost {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(hostConfig{Dir: dir, Specs: specs})
	if err != nil {
		t.Fatal(err)
	}
	h := &killedHost{cmd: exec.Command(exe), status: make(map[string]Status)}
	h.cmd.Env = append(os.Environ(), hostEnv+"="+string(config))
	h.cmd.Stderr = os.Stderr
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.out = bufio.NewReader(stdout)
	return h
}

func (h *killedHost) settled(t *testing.T) {
	t.Helper()
	line, err := h.out.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var all []Status
	if err := json.Unmarshal(line, &all); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	for _, st := range all {
		h.status[st.Name] = st
	}
}

func (h *killedHost) kill(t *testing.T) {
	t.Helper()
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = h.cmd.Wait() // it was killed
}

// A host is killed again and again, at rest and while it starts. The next one
// takes back what may survive and has been proven to be the same, ends all else,
// and there is never a second process of a component.
func TestHostIsKilled(t *testing.T) {
	rounds := 6
	if os.Getenv("SOP_TEST_LONG") != "" {
		rounds = 100
	}
	dir := t.TempDir()
	survives := func(s *Spec) { s.Survives = true }
	var specs []*Spec
	for n := range 10 {
		specs = append(specs,
			shell(fmt.Sprintf("dies%d", n), "sleep 1000 & echo up; wait", saying("up")),
			shell(fmt.Sprintf("stays%d", n), "sleep 1000 & echo up; wait", saying("up"), survives))
	}
	var last map[string]Status
	adopted := 0
	for round := range rounds {
		h := runHost(t, dir, specs)
		if round%3 == 2 { // in the middle of its start
			time.Sleep(time.Duration(10*round) * time.Millisecond)
			h.kill(t)
			last = nil
			continue
		}
		h.settled(t)
		for name, st := range h.status {
			if st.State != StateReady || st.PID == 0 {
				t.Errorf("round %d: %s is %s: %v", round, name, st.State, st.LastError)
			}
			if st.Adopted {
				adopted++
			}
			if was, ok := last[name]; ok && st.Adopted != strings.HasPrefix(name, "stays") {
				t.Errorf("round %d: %s was %d, is %d, adopted %v", round, name, was.PID, st.PID, st.Adopted)
			} else if ok && st.Adopted && was.PID != st.PID {
				t.Errorf("round %d: %s: %d was taken for %d", round, name, st.PID, was.PID)
			}
		}
		awaitOwned(t, ownerOf(filepath.Join(dir, "components")), 40)
		last = h.status
		h.kill(t)
	}
	t.Logf("%d adoptions in %d rounds", adopted, rounds)
	newSupervisor(t, dir).start() // configured no more: everything goes
}

// A pid proves nothing: a record of another process, another boot or another
// start time is not taken for this one.
func TestWrongAdoption(t *testing.T) {
	stranger := exec.CommandContext(t.Context(), "sleep", "300")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	dir := t.TempDir()
	spec := shell("a", "exec sleep 300", func(s *Spec) { s.Survives = true })
	r := &record{Component: "a", Instance: newID(), Spec: spec.identity(), Survives: true, Ready: true, base: filepath.Join(dir, "components", "a")}
	if err := os.MkdirAll(filepath.Dir(r.base), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.started(stranger.Process.Pid); err != nil {
		t.Fatal(err)
	}
	for _, edit := range []func(){func() { r.Process.Start++ }, func() { r.Process.Start--; r.Process.Boot = "another" }} {
		edit()
		if err := r.write(); err != nil {
			t.Fatal(err)
		}
		s := newSupervisor(t, dir)
		s.start(spec)
		if st := s.status("a"); st.Adopted || st.PID == stranger.Process.Pid || st.State != StateReady {
			t.Errorf("%+v", st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !alive(stranger.Process.Pid) {
		t.Error("a stranger was ended")
	}
}

// Of a record that a host was killed over, the last whole step counts.
func TestTornRecord(t *testing.T) {
	dir := t.TempDir()
	r := &record{Component: "a", Instance: newID(), Cgroup: "g", base: filepath.Join(dir, "a")}
	if err := errors.Join(r.write(), r.started(os.Getpid())); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a"+recordSuffix)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole, '\n') + 1
	for size := range whole {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := readRecords(dir)
		if err != nil || len(all) > 1 {
			t.Fatalf("%d bytes: %v, %v", size, all, err)
		}
		switch {
		case size < first-1:
			if len(all) != 0 {
				t.Errorf("%d bytes: %+v", size, all[0])
			}
		case len(all) == 0 || all[0].Cgroup != "g" || (all[0].Process == r.Process) != (size >= len(whole)-1):
			t.Errorf("%d bytes: %+v", size, all)
		}
	}
}
