package bench

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/sandbox"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/protocol"
)

func quiet() hclog.Logger { return hclog.NewNullLogger() }

func newPool(t *testing.T, onEvent func(plugin.Event)) *plugin.Pool {
	t.Helper()
	pool, err := plugin.New(plugin.Options{RunDir: filepath.Join(t.TempDir(), "run"), OnEvent: onEvent, SandboxLauncher: func() (string, error) {
		return filepath.Abs("../../../bin/sop-sandbox") // from make build
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}

func newSpec(t *testing.T) *plugin.Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := plugin.HashFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	return &plugin.Spec{
		Kind: "protocol", Name: "bench", Command: exe, Env: []string{modeEnv + "=" + modeSDK}, Hash: hash, StateDir: t.TempDir(),
		StartTimeout: 20 * time.Second, CallTimeout: 5 * time.Minute, StopGrace: 2 * time.Second, DrainTimeout: 20 * time.Second,
		Restart: plugin.RestartPolicy{BackoffMin: time.Millisecond, BackoffMax: time.Millisecond, BreakerFailures: 1000, BreakerWindow: time.Second},
	}
}

func call(ctx context.Context, c pluginv1.ProtocolClient) error {
	_, err := c.Handle(ctx, &pluginv1.HandleRequest{Call: &pluginv1.Call{Operation: "echo", Payload: []byte("0123456789abcdef")}})
	return err
}

// TestBenchCall: a call through the pool, with deadline, metrics and error
// mapping, against the same call through bare go-plugin, both with mutual TLS
// and both to a process in a session of its own: the kernel schedules sessions
// as groups (autogroup), which makes a call between two of them dearer whoever
// starts the process. What that costs is printed beside it.
func TestBenchCall(t *testing.T) {
	wanted(t)
	pool := newPool(t, nil)
	if err := pool.Start(t.Context(), []*plugin.Spec{newSpec(t)}); err != nil {
		t.Fatal(err)
	}
	type peer struct {
		client pluginv1.ProtocolClient
		pid    int
		costs  []time.Duration
	}
	ours := &peer{client: protocol.Kind.NewClient(pool.Conn("protocol.bench")), pid: pool.Status()[0].PID}
	peers := []*peer{ours}
	for _, ownSession := range []bool{true, false} {
		client, process := startBare(t, true, ownSession)
		pid, err := strconv.Atoi(process.ID())
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, &peer{client: client, pid: pid})
	}
	const calls, rounds = 500, 61
	for range rounds { // in turns, so that all see the same machine
		for _, p := range peers {
			before := ownCPU() + cpuOf(t, p.pid)
			for range calls {
				if err := call(t.Context(), p.client); err != nil {
					t.Fatal(err)
				}
			}
			p.costs = append(p.costs, (ownCPU()+cpuOf(t, p.pid)-before)/calls)
		}
	}
	o, f, s := median(ours.costs), median(peers[1].costs), median(peers[2].costs)
	say(t, "call through the pool, CPU of both sides", float64(o)/float64(f), "≤ 1.10×", "%v against %v with bare go-plugin", o, f)
	say(t, "  a session of its own, bare go-plugin", float64(f)/float64(s), "-", "%v against %v in the session of the host", f, s)
}

// TestBenchReload: 64 callers, 200 swaps, no failed call.
func TestBenchReload(t *testing.T) {
	wanted(t)
	pool := newPool(t, nil)
	spec := newSpec(t)
	if err := pool.Start(t.Context(), []*plugin.Spec{spec}); err != nil {
		t.Fatal(err)
	}
	const callers, swaps = 64, 200
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var calls, failed atomic.Int64
	c := protocol.Kind.NewClient(pool.Conn("protocol.bench"))
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if call(t.Context(), c) != nil {
					failed.Add(1)
				}
				calls.Add(1)
			}
		})
	}
	begin := time.Now()
	for i := range swaps {
		next := spec.Clone()
		next.Args = []string{strconv.Itoa(i)}
		change, err := pool.Prepare(t.Context(), []*plugin.Spec{next})
		if err != nil {
			t.Fatal(err)
		}
		change.Commit()
	}
	took := time.Since(begin)
	cancel()
	wg.Wait()
	t.Logf("bench  %-44s %d failed of %d calls over %d swaps, target 0; %v a swap under load", "reload under load", failed.Load(), calls.Load(), swaps, (took / swaps).Round(time.Millisecond))
	if failed.Load() > 0 {
		t.Errorf("%d calls failed", failed.Load())
	}
}

// TestBenchColdStart: from nothing to the first answer with mutual
// authentication, verified, described, configured and healthy, against a bare
// go-plugin start without TLS. The first start of a program also reads it for
// its checksum, which is printed apart.
func TestBenchColdStart(t *testing.T) {
	wanted(t)
	const rounds = 21
	retired := make(chan struct{}, rounds)
	pool := newPool(t, func(e plugin.Event) {
		if e.Phase == "retired" {
			retired <- struct{}{}
		}
	})
	spec := newSpec(t)
	client := protocol.Kind.NewClient(pool.Conn("protocol.bench"))
	boxes := map[sandbox.Level]*plugin.SandboxSpec{sandbox.LevelNone: nil}
	for _, level := range []sandbox.Level{sandbox.LevelLandlock, sandbox.LevelStrict} {
		plan, err := sandbox.PluginPlan(sandbox.Profile{Name: "bench", Level: level}, []string{t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		boxes[level] = &plugin.SandboxSpec{Profile: "bench", Plan: *plan}
	}
	startAt := func(i int, level sandbox.Level) time.Duration {
		next := spec.Clone()
		next.Args, next.Sandbox = []string{strconv.Itoa(i)}, boxes[level]
		begin := time.Now()
		change, err := pool.Prepare(t.Context(), []*plugin.Spec{next})
		if err != nil {
			t.Fatal(err)
		}
		change.Commit()
		if err := call(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	bare := func(mtls bool) time.Duration {
		begin := time.Now()
		c, process := startBare(t, mtls, false)
		if err := call(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		process.Kill()
		return took
	}
	var floor, autoMTLS, ours, landlock, strict []time.Duration
	first := startAt(-1, sandbox.LevelNone)
	for i := range rounds {
		floor, autoMTLS = append(floor, bare(false)), append(autoMTLS, bare(true))
		for level, costs := range map[sandbox.Level]*[]time.Duration{sandbox.LevelNone: &ours, sandbox.LevelLandlock: &landlock, sandbox.LevelStrict: &strict} {
			*costs = append(*costs, startAt(i, level))
			<-retired // of the one before
		}
	}
	f, a, o := median(floor), median(autoMTLS), median(ours)
	say(t, "cold start with mutual authentication", float64(o)/float64(f), "≤ 2×", "%v against %v without TLS", o, f)
	l, b := median(landlock), median(strict)
	say(t, "  with a sandbox_profile of level landlock", float64(l)/float64(f), "≤ 2×", "%v, %v more", l, l-o)
	say(t, "  with a sandbox_profile of level strict", float64(b)/float64(f), "-", "%v, %v more", b, b-o)
	say(t, "  go-plugin's own AutoMTLS", float64(a)/float64(f), "-", "%v", a)
	say(t, "  first start, with its checksum", float64(first)/float64(f), "-", "%v, program of %d MiB", first, programSize(t)>>20)
}

// programSize is that of the test binary.
func programSize(t *testing.T) int64 {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(exe)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestBenchCrash: from the exit of a plugin to the news of it, and from its kill
// to the first answer of its replacement. The exit is when the kernel lets
// somebody who waits for nothing else know; what it takes for that, from the
// kill on, is printed apart.
func TestBenchCrash(t *testing.T) {
	wanted(t)
	exited := make(chan time.Time, 100)
	pool := newPool(t, func(e plugin.Event) {
		if e.Phase == "exited" {
			exited <- time.Now()
		}
	})
	if err := pool.Start(t.Context(), []*plugin.Spec{newSpec(t)}); err != nil {
		t.Fatal(err)
	}
	c := protocol.Kind.NewClient(pool.Conn("protocol.bench"))
	const rounds = 21
	var ending, noticed, answered []time.Duration
	for range rounds {
		if err := call(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // the breaker's window: each crash is a first one
		pid := pool.Status()[0].PID
		ended := exitOf(pid)
		begin := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		news, end := <-exited, <-ended
		ending, noticed = append(ending, end.Sub(begin)), append(noticed, max(0, news.Sub(end)))
		if err := call(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		answered = append(answered, time.Since(begin))
	}
	t.Logf("bench  %-44s median %v, worst %v, target ≤ 5ms", "crash noticed, after the exit", median(noticed), worst(noticed))
	t.Logf("bench  %-44s median %v, worst %v", "  exit, after the kill", median(ending), worst(ending))
	t.Logf("bench  %-44s median %v, worst %v, target ≤ 50ms", "replacement answers", median(answered), worst(answered))
}

// exitOf tells when the process has exited, as soon as a thread can know. Who
// started the process reaps it.
func exitOf(pid int) <-chan time.Time {
	ended := make(chan time.Time, 1)
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		close(ready)
		var info unix.Siginfo
		for unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
			continue
		}
		ended <- time.Now()
	}()
	<-ready
	return ended
}
