package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/component"
	"github.com/sop-host/sop/host/internal/process"
)

// modeReady makes the test binary a component: it prints the time, says that it is
// ready, and stays.
const modeReady = "ready"

func actReady() {
	now := strconv.FormatInt(time.Now().UnixNano(), 10)
	fmt.Println("ready " + now)
	if address := os.Getenv("NOTIFY_SOCKET"); address != "" {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
		if err != nil {
			panic(err)
		}
		if _, err := conn.Write([]byte("READY=1")); err != nil {
			panic(err)
		}
	}
	time.Sleep(time.Hour)
}

// phases is how long each start spent in each phase that costs something.
type phases struct {
	mu   sync.Mutex
	at   map[string]component.Event // the last of each component
	when map[string]time.Time
	took map[component.Phase][]time.Duration
}

// note takes an event of the supervisor.
func (p *phases) note(e component.Event) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, ok := p.at[e.Name]; ok {
		p.took[last.Phase] = append(p.took[last.Phase], now.Sub(p.when[e.Name]))
	}
	p.at[e.Name], p.when[e.Name] = e, now
}

// say prints the median and the worst of each phase.
func (p *phases) say(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, phase := range []component.Phase{component.PhaseQueued, component.PhaseVerifying, component.PhaseStarting, component.PhaseWaiting} {
		if all := p.took[phase]; len(all) > 0 {
			t.Logf("bench    %-42s median %v, worst %v, of %d starts", phase, median(all).Round(time.Microsecond), worst(all).Round(time.Microsecond), len(all))
		}
	}
}

func newPhases() *phases {
	return &phases{at: make(map[string]component.Event), when: make(map[string]time.Time), took: make(map[component.Phase][]time.Duration)}
}

func supervise(t *testing.T, tell *phases) *component.Supervisor {
	t.Helper()
	dir := t.TempDir()
	opt := component.Options{Dir: filepath.Join(dir, "c"), LogDir: filepath.Join(dir, "l")}
	if tell != nil {
		opt.OnEvent = tell.note
	}
	s, err := component.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func benchComponent(name string, readiness component.Readiness, command string, args ...string) *component.Spec {
	return &component.Spec{
		Name: name, Command: command, Args: args, Dir: "/", Readiness: readiness,
		Treatment: component.Treatment{
			StartTimeout: time.Minute, RestartPolicy: component.RestartNever, StopSignal: syscall.SIGTERM, StopGrace: 10 * time.Second,
			Backoff: process.DefaultBackoff,
		},
	}
}

// settle starts specs and returns how long it took until all were ready, and what
// this process used meanwhile.
func settle(t *testing.T, s *component.Supervisor, specs []*component.Spec) (took, cpu time.Duration) {
	t.Helper()
	began, used := time.Now(), ownCPU()
	if err := s.Start(specs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	took, cpu = time.Since(began), ownCPU()-used
	for _, st := range s.Status() {
		if st.State != component.StateReady {
			t.Fatalf("%s is %s: %v", st.Name, st.State, st.LastError)
		}
	}
	return took, cpu
}

// bare starts a shell script without any supervision and returns when it has
// printed its first line.
func bare(t *testing.T, script string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"} // as components are
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Error(err)
	}
}

// A chain of eight components that take 50 ms each, and the same programs one after
// the other without supervision: what they take to start is theirs.
func TestBenchComponentChain(t *testing.T) {
	wanted(t)
	const length, ideal, script = 8, 400 * time.Millisecond, "sleep 0.05; echo up; exec sleep 300"
	var all, floors []time.Duration
	tell := newPhases()
	for range 5 {
		began := time.Now()
		for range length {
			bare(t, script)
		}
		floors = append(floors, time.Since(began))
		s := supervise(t, tell)
		var specs []*component.Spec
		for n := range length {
			spec := benchComponent(fmt.Sprintf("c%d", n), component.Readiness{Kind: component.ProbeLog, Target: "up"}, "/bin/sh", "-c", script)
			if n > 0 {
				spec.DependsOn = []string{fmt.Sprintf("c%d", n-1)}
			}
			specs = append(specs, spec)
		}
		took, _ := settle(t, s, specs)
		all = append(all, took)
	}
	say(t, "a chain of 8 components of 50 ms", float64(median(all))/float64(ideal), "≤ 1.15", "%v, worst %v", median(all), worst(all))
	say(t, "  of the same programs unsupervised", float64(median(all))/float64(median(floors)), "-", "these took %v", median(floors))
	tell.say(t)
}

// Two hundred components that wait for nothing.
func TestBenchComponentsIndependent(t *testing.T) {
	wanted(t)
	const count, script = 200, "echo up; exec sleep 300"
	var alone sync.WaitGroup
	began := time.Now()
	for range count {
		alone.Go(func() { bare(t, script) })
	}
	alone.Wait()
	floor := time.Since(began)
	tell := newPhases()
	s := supervise(t, tell)
	var specs []*component.Spec
	for n := range count {
		specs = append(specs, benchComponent(fmt.Sprintf("c%d", n), component.Readiness{Kind: component.ProbeLog, Target: "up"}, "/bin/sh", "-c", script))
	}
	took, cpu := settle(t, s, specs)
	say(t, "200 independent components", float64(took)/float64(1500*time.Millisecond), "≤ 1.00", "%v, of 1.5 s", took)
	say(t, "  of the same programs unsupervised", float64(took)/float64(floor), "-", "these took %v; the host's own CPU is %v for each", floor, cpu/count)
	tell.say(t)
}

// How long after a component has said so it counts as ready.
func TestBenchReadinessLag(t *testing.T) {
	wanted(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []component.ProbeKind{component.ProbeLog, component.ProbeNotify} {
		var lags []time.Duration
		for range 10 {
			s := supervise(t, nil)
			var specs []*component.Spec
			for n := range 10 {
				spec := benchComponent(fmt.Sprintf("c%d", n), component.Readiness{Kind: kind, Target: "^ready"}, exe)
				spec.Env = []string{modeEnv + "=" + modeReady}
				if n > 0 { // one after the other: the lag is measured, not the crowd
					spec.DependsOn = []string{fmt.Sprintf("c%d", n-1)}
				}
				specs = append(specs, spec)
			}
			settle(t, s, specs)
			for _, st := range s.Status() {
				lags = append(lags, st.Since.Sub(said(t, s, st.Name)))
			}
		}
		slices.Sort(lags)
		p99 := lags[len(lags)*99/100]
		say(t, "readiness lag, "+string(kind)+", p99", float64(p99)/float64(50*time.Millisecond), "≤ 1.00", "%v of 50 ms; median %v, %d starts", p99, median(lags), len(lags))
	}
}

// said returns when a component said that it was ready.
func said(t *testing.T, s *component.Supervisor, name string) time.Time {
	t.Helper()
	var at time.Time
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // what it prints may come after what it notifies of
	defer cancel()
	err := s.Logs(ctx, name, 1, true, func(lines []component.Line) error {
		n, err := strconv.ParseInt(strings.TrimPrefix(lines[0].Text, "ready "), 10, 64)
		at = time.Unix(0, n)
		cancel()
		return err
	})
	if err != nil || at.IsZero() {
		t.Fatalf("%s said nothing: %v", name, err)
	}
	return at
}

// Fifty components that ignore their signal, and have started more, die at once.
func TestBenchHalt(t *testing.T) {
	wanted(t)
	s := supervise(t, nil)
	var specs []*component.Spec
	for n := range 50 {
		specs = append(specs, benchComponent(fmt.Sprintf("c%d", n), component.Readiness{Kind: component.ProbeLog, Target: "up"}, "/bin/sh", "-c", "trap '' TERM; setsid sleep 300 & echo up; while :; do sleep 100; done"))
	}
	settle(t, s, specs)
	began := time.Now()
	if err := s.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	say(t, "50 components killed at once", float64(took)/float64(2*time.Second), "≤ 1.00", "%v, of 2 s", took)
}
