package component

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/sop-host/sop/host/internal/process"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(hostEnv); config != "" {
		actAsHost(config)
		return
	}
	code := m.Run()
	if programs != "" {
		_ = os.RemoveAll(programs)
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience is how long a busy machine may take for what is quick.
const patience = 20 * time.Second

// supervisor is one with helpers, that is closed at the end of the test.
type supervisor struct {
	*Supervisor
	t  *testing.T
	mu sync.Mutex
	// events in order, as "name phase".
	events []string
}

// newSupervisor makes one in dir, without anything to run.
func newSupervisor(t *testing.T, dir string, edit ...func(*Options)) *supervisor {
	t.Helper()
	s := &supervisor{t: t}
	opt := Options{Dir: filepath.Join(dir, "components"), LogDir: filepath.Join(dir, "logs"), OnEvent: s.note, Logger: hclog.New(&hclog.LoggerOptions{Output: testLog{t}, Level: hclog.Debug})}
	for _, f := range edit {
		f(&opt)
	}
	made, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	s.Supervisor = made
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if left := owned(s.owner); len(left) > 0 {
			t.Errorf("processes left: %v", left)
		}
		if left, err := filepath.Glob(filepath.Join(s.opt.Dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("files left: %v, %v", left, err)
		}
	})
	return s
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (s *supervisor) note(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e.Name+" "+string(e.Phase))
}

func (s *supervisor) history() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// start starts specs and waits until all have settled.
func (s *supervisor) start(specs ...*Spec) {
	s.t.Helper()
	if err := s.Start(specs); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.Settled(ctx); err != nil {
		s.t.Fatalf("not settled: %v: %+v", err, s.Status())
	}
}

// status returns how a component stands.
func (s *supervisor) status(name string) Status {
	s.t.Helper()
	st, err := s.Get(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// await waits until a component is in one of the states.
func (s *supervisor) await(name string, states ...State) Status {
	s.t.Helper()
	return s.awaitThat(name, fmt.Sprint(states), func(st Status) bool { return slices.Contains(states, st.State) })
}

func (s *supervisor) awaitThat(name, what string, holds func(Status) bool) Status {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var st Status
	err := s.until(ctx, s.unit(name), func() bool {
		st = s.status(name)
		return holds(st)
	})
	if err != nil {
		s.t.Fatalf("%s did not become %s: %+v", name, what, st)
	}
	return st
}

// shell describes a component that is a shell script.
func shell(name, script string, edit ...func(*Spec)) *Spec {
	spec := &Spec{
		Name: name, Command: "/bin/sh", Args: []string{"-c", script}, Dir: "/", Readiness: Readiness{Kind: ProbeNone},
		Treatment: Treatment{
			StartTimeout: patience, RestartPolicy: RestartOnFailure, StopSignal: syscall.SIGTERM, StopGrace: patience, IdleStop: time.Hour,
			Backoff: process.Backoff{BackoffMin: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond, BreakerFailures: 3, BreakerWindow: time.Minute},
		},
	}
	for _, f := range edit {
		f(spec)
	}
	return spec
}

func after(names ...string) func(*Spec) { return func(s *Spec) { s.DependsOn = names } }

// saying makes it ready when it prints what matches.
func saying(pattern string) func(*Spec) {
	return func(s *Spec) { s.Readiness = Readiness{Kind: ProbeLog, Target: pattern} }
}

func onDemand(idle time.Duration) func(*Spec) {
	return func(s *Spec) { s.OnDemand, s.IdleStop = true, idle }
}

// owned returns the processes of an owner's components.
func owned(owner string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err)
	}
	var out []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err == nil && (process.Seen{PID: pid}).HasEnv(ownerVariable+"="+owner) {
			out = append(out, pid)
		}
	}
	return out
}

// awaitOwned waits until there are so many processes, and never more. One that is
// just becoming its program has no environment to be known by.
func awaitOwned(t *testing.T, owner string, want int) {
	t.Helper()
	n := -1
	for deadline := time.Now().Add(patience); n < want && time.Now().Before(deadline); {
		n = len(owned(owner))
	}
	if n != want {
		t.Errorf("there are %d processes, want %d", n, want)
	}
}

// alive says whether a process runs.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	rest := string(data)[strings.LastIndexByte(string(data), ')')+1:]
	return !strings.HasPrefix(strings.TrimSpace(rest), "Z")
}

// awaitGone waits until a process is no more.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	h, err := process.Open(pid)
	if errors.Is(err, syscall.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !h.WaitFor(ctx) {
		t.Errorf("process %d lives on", pid)
	}
}

// hostEnv makes the test binary a host: its value is a JSON of hostConfig.
const hostEnv = "SOP_TEST_HOST"

// hostConfig says what a host is to run.
type hostConfig struct {
	Dir   string
	Specs []*Spec
}

// actAsHost runs components until it is killed, and prints how they stand once
// they have settled.
func actAsHost(config string) {
	var c hostConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		panic(err)
	}
	s, err := New(Options{Dir: filepath.Join(c.Dir, "components"), LogDir: filepath.Join(c.Dir, "logs"), SandboxLauncher: sandboxProgram})
	if err != nil {
		panic(err)
	}
	if err := s.Start(c.Specs); err != nil {
		panic(err)
	}
	if err := s.Settled(context.Background()); err != nil {
		panic(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(s.Status()); err != nil {
		panic(err)
	}
	select {}
}
