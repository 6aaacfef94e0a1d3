package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

func supervise(t *testing.T) *component.Supervisor {
	t.Helper()
	dir := t.TempDir()
	s, err := component.New(component.Options{Dir: filepath.Join(dir, "c"), LogDir: filepath.Join(dir, "l")})
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

// settle starts specs and returns how long it took until all were ready.
func settle(t *testing.T, s *component.Supervisor, specs []*component.Spec) time.Duration {
	t.Helper()
	began := time.Now()
	if err := s.Start(specs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	for _, st := range s.Status() {
		if st.State != component.StateReady {
			t.Fatalf("%s is %s: %v", st.Name, st.State, st.LastError)
		}
	}
	return took
}

// A chain of eight components that take 50 ms each.
func TestBenchComponentChain(t *testing.T) {
	wanted(t)
	const length, ideal = 8, 400 * time.Millisecond
	var all []time.Duration
	for range 5 {
		s := supervise(t)
		var specs []*component.Spec
		for n := range length {
			spec := benchComponent(fmt.Sprintf("c%d", n), component.Readiness{Kind: component.ProbeLog, Target: "up"}, "/bin/sh", "-c", "sleep 0.05; echo up; exec sleep 300")
			if n > 0 {
				spec.DependsOn = []string{fmt.Sprintf("c%d", n-1)}
			}
			specs = append(specs, spec)
		}
		all = append(all, settle(t, s, specs))
	}
	say(t, "a chain of 8 components of 50 ms", float64(median(all))/float64(ideal), "≤ 1.15", "%v, worst %v", median(all), worst(all))
}

// Two hundred components that wait for nothing.
func TestBenchComponentsIndependent(t *testing.T) {
	wanted(t)
	s := supervise(t)
	var specs []*component.Spec
	for n := range 200 {
		specs = append(specs, benchComponent(fmt.Sprintf("c%d", n), component.Readiness{Kind: component.ProbeLog, Target: "up"}, "/bin/sh", "-c", "echo up; exec sleep 300"))
	}
	took := settle(t, s, specs)
	say(t, "200 independent components", float64(took)/float64(1500*time.Millisecond), "≤ 1.00", "%v, of 1.5 s", took)
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
			s := supervise(t)
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
	err := s.Logs(t.Context(), name, 1, false, func(lines []component.Line) error {
		n, err := strconv.ParseInt(strings.TrimPrefix(lines[0].Text, "ready "), 10, 64)
		at = time.Unix(0, n)
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
	s := supervise(t)
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
