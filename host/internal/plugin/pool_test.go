package plugin

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/process"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/protocol"
)

// selfHash is the checksum of the test binary, taken once.
var selfHash = sync.OnceValues(func() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return HashFile(exe)
})

// newSpec describes the test binary as a plugin that behaves as mode says.
func newSpec(t *testing.T, name, mode string) *Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := selfHash()
	if err != nil {
		t.Fatal(err)
	}
	return &Spec{
		Kind: "protocol", Name: name, Command: exe, Env: []string{modeEnv + "=" + mode, "GORACE=atexit_sleep_ms=0"}, Hash: hash,
		StateDir: filepath.Join(t.TempDir(), "state"), StartTimeout: 10 * time.Second, CallTimeout: 10 * time.Second,
		StopGrace: time.Second, DrainTimeout: 10 * time.Second,
		Restart: RestartPolicy{BackoffMin: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond, BreakerFailures: 3, BreakerWindow: time.Minute},
	}
}

// testPool is a pool whose events can be waited for.
type testPool struct {
	*Pool
	t      *testing.T
	runDir string
	mu     sync.Mutex
	events []Event
	news   chan struct{}
}

func newPool(t *testing.T, opts ...func(*Options)) *testPool {
	t.Helper()
	p := &testPool{t: t, runDir: filepath.Join(t.TempDir(), "run"), news: make(chan struct{}, 1)}
	opt := Options{RunDir: p.runDir, HostVersion: "test", OnEvent: p.onEvent, Logger: hclog.New(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Trace})}
	for _, f := range opts {
		f(&opt)
	}
	pool, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	p.Pool = pool
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Errorf("close pool: %v", err)
		}
		if left, err := os.ReadDir(p.runDir); err != nil || len(left) > 0 {
			t.Errorf("left behind in the run directory: %v, %v", left, err)
		}
	})
	return p
}

func (p *testPool) onEvent(e Event) {
	p.mu.Lock()
	p.events = append(p.events, e)
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// await waits until cond holds, looking again at each event.
func (p *testPool) await(what string, cond func() bool) {
	p.t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-p.news:
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("waited in vain for: %s; status %+v", what, p.Status())
		}
	}
}

func (p *testPool) start(specs ...*Spec) {
	p.t.Helper()
	if err := p.Start(p.t.Context(), specs); err != nil {
		p.t.Fatal(err)
	}
}

func (p *testPool) status(name string) Status {
	p.t.Helper()
	for _, s := range p.Status() {
		if s.Name == name {
			return s
		}
	}
	p.t.Fatalf("no status of %s", name)
	return Status{}
}

func (p *testPool) client(name string) pluginv1.ProtocolClient {
	return protocol.Kind.NewClient(p.Conn("protocol." + name))
}

func handle(ctx context.Context, c pluginv1.ProtocolClient, operation, payload string) (string, error) {
	resp, err := c.Handle(ctx, &pluginv1.HandleRequest{Call: &pluginv1.Call{Operation: operation, Payload: []byte(payload)}})
	return string(resp.GetResult()), err
}

func (p *testPool) mustEcho(name string) {
	p.t.Helper()
	got, err := handle(p.t.Context(), p.client(name), "echo", "hello")
	if err != nil || got != "hello" {
		p.t.Fatalf("echo through %s: %q, %v; status %+v", name, got, err, p.status(name))
	}
}

func TestCall(t *testing.T) {
	p := newPool(t)
	p.start(newSpec(t, "a", "good"))
	p.mustEcho("a")
	s := p.status("a")
	if s.State != StateReady || s.Version != "1.2.3" || s.Generation != 1 || s.PID == 0 || s.Calls != 1 || s.Failures != 0 {
		t.Errorf("status: %+v", s)
	}
	if os.Geteuid() == 0 && s.Containment != PIDNamespace {
		t.Errorf("containment is %s, root can have %s", s.Containment, PIDNamespace)
	}
}

func TestErrorsCrossTheBoundary(t *testing.T) {
	p := newPool(t)
	p.start(newSpec(t, "a", "good"))
	_, err := handle(t.Context(), p.client("a"), "error", "")
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != codes.InvalidArgument || e.Reason != "BAD_PAYLOAD" || e.Remedy != "send a better one" {
		t.Fatalf("got %#v", err)
	}
}

// A plugin sees nothing of the host's environment and descriptors.
func TestNothingIsInherited(t *testing.T) {
	t.Setenv("SOP_HOST_SECRET", "do not tell")
	leak, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(leak) }()
	p := newPool(t)
	p.start(newSpec(t, "a", "good"))
	env, err := handle(t.Context(), p.client("a"), "env", "")
	if err != nil || strings.Contains(env, "SOP_HOST_SECRET") || strings.Contains(env, "HOME=") {
		t.Errorf("environment: %v\n%s", err, env)
	}
	fds, err := handle(t.Context(), p.client("a"), "fds", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(fds, "\n") {
		number, target, _ := strings.Cut(line, " ")
		if !slices.Contains([]string{"0", "1", "2"}, number) && !strings.HasPrefix(target, "socket:") &&
			!strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "pipe:") && !strings.HasPrefix(target, "/proc/") &&
			target != "" /* the listing itself */ && !strings.HasPrefix(target, "/sys/fs/cgroup/") /* opened by the Go runtime */ {
			t.Errorf("descriptor leaked: %s", line)
		}
	}
}

// Who removes the directory of sockets, as to make room, does not keep plugins from
// being started again, wherever it lies.
func TestRunDirectoryRemoved(t *testing.T) {
	for name, dir := range map[string]string{"short": "run", "long": filepath.Join(strings.Repeat("d", 100), "run")} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), dir)
			p := newPool(t, func(o *Options) { o.RunDir = dir })
			p.runDir = dir
			p.start(newSpec(t, "a", "good"))
			for range 2 {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				p.mustEcho("a") // it is connected
				if err := p.Restart(t.Context(), "protocol.a"); err != nil {
					t.Fatal(err)
				}
				p.mustEcho("a")
			}
		})
	}
}

// A long data directory does not exceed what a socket address can hold.
func TestLongRunDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	p := newPool(t, func(o *Options) { o.RunDir = dir })
	p.runDir = dir
	p.start(newSpec(t, "a", "good"))
	p.mustEcho("a")
}

// What cannot be taken into service is refused with cause and remedy, within
// its deadline, and does not touch its neighbour.
func TestRefused(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	write := func(content string, mode os.FileMode) {
		if err := os.WriteFile(script, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("echo no shebang\n", 0o755)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	exe, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(plain, exe, 0o644); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign")
	exe[18], exe[19] = 0xb7, 0 // EM_AARCH64
	if err := os.WriteFile(foreign, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	noInterpreter := filepath.Join(t.TempDir(), "nointerp")
	if err := os.WriteFile(noInterpreter, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	lockedAs := func(path string) func(*Spec) {
		return func(s *Spec) {
			s.Command = path
			if h, err := HashFile(path); err == nil {
				s.Hash = h
			}
		}
	}
	command := func(path string) func(*Spec) { return func(s *Spec) { s.Command = path } }
	tests := []struct {
		name   string
		mode   string
		change func(*Spec)
		reason string
		says   string
	}{
		{"not locked", "good", func(s *Spec) { s.Hash = "" }, ReasonNotLocked, "lock file"},
		{"wrong checksum", "good", func(s *Spec) { s.Hash = "sha256:" + strings.Repeat("0", 64) }, ReasonChecksum, "the lock file says sha256:000"},
		{"missing", "good", command("/no/such/plugin"), ReasonNotExecutable, "does not exist"},
		{"directory", "good", command("/tmp"), ReasonNotExecutable, "is a directory"},
		{"empty", "good", command(empty), ReasonNotExecutable, "is empty"},
		{"not executable", "good", command(plain), ReasonNotExecutable, "not executable"},
		{"wrong architecture", "good", command(foreign), ReasonNotExecutable, "AARCH64"},
		{"no shebang", "good", command(script), ReasonNotExecutable, "neither an ELF program"},
		{"no interpreter", "good", lockedAs(noInterpreter), ReasonNotExecutable, "no such file"},
		{"not a plugin", "good", lockedAs("/bin/true"), ReasonExitedEarly, "ended before it was ready"},
		{"prints something else", "print:hello world", nil, ReasonHandshake, `"hello world" instead of a handshake`},
		{"prints a stray line", "stray-line", nil, ReasonHandshake, "Hello from my plugin!"},
		{"newer contract", "print:1|99|unix|./x|grpc|" + strings.Repeat("A", 60), nil, ReasonContract, "contract 99, this host speaks 1"},
		{"older contract", "print:1|0|unix|./x|grpc|" + strings.Repeat("A", 60), nil, ReasonContract, "contract 0, this host speaks 1"},
		{"no certificate", "print:1|1|unix|./x|grpc", nil, ReasonHandshake, "no certificate"},
		{"net/rpc", "print:1|1|unix|./x|netrpc|" + strings.Repeat("A", 60), nil, ReasonHandshake, `"netrpc"`},
		{"socket elsewhere", "outside", nil, ReasonHandshake, "outside its directory"},
		{"wrong kind", "wrong-kind", nil, ReasonWrongKind, "is a detector plugin, configured as protocol"},
		{"never handshakes", "silent", func(s *Spec) { s.StartTimeout = time.Second }, ReasonStartTimeout, "not ready within 1s"},
		{"nobody serves", "deaf", func(s *Spec) { s.StartTimeout = time.Second }, "", ""},
		{"exits", "exit", nil, ReasonExitedEarly, "the database is on fire"},
		{"exits quietly", "quiet-exit", nil, ReasonExitedEarly, "exit status 0"},
		{"refuses config", "refuse-config", nil, ReasonConfig, "limit must be positive"},
		{"fails at its config", "fail-config", nil, ReasonConfig, "it is not there"},
		{"panics at its config", "panic-config", nil, ReasonExitedEarly, "as it was told"},
	}
	p := newPool(t)
	p.start(newSpec(t, "neighbour", "good"))
	pid := p.status("neighbour").PID
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := newSpec(t, "bad", tt.mode)
			spec.CallTimeout = 2 * time.Second
			if tt.change != nil {
				tt.change(spec)
			}
			keep := newSpec(t, "neighbour", "good")
			*keep = *p.units["protocol.neighbour"].spec.Load()
			begin := time.Now()
			change, err := p.Prepare(t.Context(), []*Spec{keep, spec})
			if err == nil {
				change.Discard()
				t.Fatal("taken into service")
			}
			if took := time.Since(begin); took > spec.StartTimeout+3*time.Second {
				t.Errorf("took %v", took)
			}
			e := sdk.FromError(err)
			if tt.reason != "" && e.Reason != tt.reason || !strings.Contains(e.Message, tt.says) || e.Remedy == "" || strings.HasSuffix(e.Remedy, ": ") {
				t.Errorf("got %s: %s\nremedy: %s", e.Reason, e.Message, e.Remedy)
			}
		})
	}
	p.mustEcho("neighbour")
	if got := p.status("neighbour"); got.PID != pid || got.Restarts != 0 {
		t.Errorf("neighbour was touched: %+v", got)
	}
}

// A plugin that misbehaves while it serves neither harms the host nor a neighbour.
func TestHostile(t *testing.T) {
	for _, mode := range []string{"bad-json", "flood-stderr", "long-line", "flood-stdout", "ignore-term", "grandchild", "daemon"} {
		t.Run(mode, func(t *testing.T) {
			p := newPool(t)
			p.start(newSpec(t, "bad", mode), newSpec(t, "neighbour", "good"))
			p.mustEcho("bad")
			p.mustEcho("neighbour")
			pid := p.status("bad").PID
			children := descendants(t, pid)
			begin := time.Now()
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("closing took %v", took)
			}
			for _, c := range append(children, pid) {
				if alive(c) {
					t.Errorf("process %d still lives", c)
				}
			}
		})
	}
}

// Without namespaces, a descendant that has detached itself is found by where it
// works: when its plugin ends, and by the next host.
func TestStraysWithoutNamespaces(t *testing.T) {
	for _, killed := range []bool{false, true} {
		p := newPool(t)
		p.starter.launcher.Stop()
		p.starter.launcher = process.NewLauncher(false)
		p.start(newSpec(t, "a", "daemon"))
		pid := p.status("a").PID
		if c := p.status("a").Containment; c != ProcessGroup {
			t.Fatalf("containment is %s", c)
		}
		strays := descendants(t, pid)
		if len(strays) != 1 {
			t.Fatalf("descendants: %v", strays)
		}
		gone := exits(t, strays)[strays[0]]
		if killed { // as after the death of a host
			if n, err := endStrays(p.runDir); err != nil || n < 1 {
				t.Fatalf("ended %d, %v", n, err)
			}
		} else if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if !gone(2 * time.Second) {
			t.Errorf("the stray lives on (killed: %v)", killed)
		}
	}
}

// descendants returns the children of pid, as /proc tells.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	var out []int
	tasks, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tasks {
		if child, ppid := statOf(path); ppid == pid {
			out = append(out, child)
		}
	}
	return out
}

func alive(pid int) bool {
	data, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestCrashInCall(t *testing.T) {
	for _, operation := range []string{"panic", "exit"} {
		t.Run(operation, func(t *testing.T) {
			p := newPool(t)
			p.start(newSpec(t, "a", "good"), newSpec(t, "neighbour", "good"))
			_, err := handle(t.Context(), p.client("a"), operation, "")
			e := sdk.FromError(err)
			if e == nil || e.Reason != ReasonCrashed || e.Remedy == "" {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(e.Message, "as it was told") {
				t.Errorf("the cause is missing: %s", e.Message)
			}
			p.mustEcho("a") // waits for the restart
			s := p.status("a")
			if s.Restarts != 1 || s.Generation != 2 || s.LastError == nil || s.LastError.Reason != ReasonCrashed {
				t.Errorf("status: %+v", s)
			}
			p.mustEcho("neighbour")
		})
	}
}

func TestHangEndsAtTheDeadline(t *testing.T) {
	p := newPool(t)
	spec := newSpec(t, "a", "good")
	spec.CallTimeout = 300 * time.Millisecond
	p.start(spec)
	for _, operation := range []string{"hang", "wait"} {
		begin := time.Now()
		_, err := handle(t.Context(), p.client("a"), operation, "")
		if e := sdk.FromError(err); e == nil || e.Reason != ReasonDeadline || time.Since(begin) > 3*time.Second {
			t.Errorf("%s: got %v after %v", operation, err, time.Since(begin))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := handle(ctx, p.client("a"), "wait", "")
	if e := sdk.FromError(err); e == nil || e.Code != codes.DeadlineExceeded || e.Reason == ReasonDeadline {
		t.Errorf("the caller's own deadline: %v", err)
	}
	p.mustEcho("a")
}

func TestReplyTooLarge(t *testing.T) {
	p := newPool(t)
	p.start(newSpec(t, "a", "good"))
	_, err := handle(t.Context(), p.client("a"), "huge", "")
	if e := sdk.FromError(err); e == nil || e.Reason != ReasonReplyTooLarge {
		t.Fatalf("got %v", err)
	}
	p.mustEcho("a")
}

func TestStreamIsBoundedAndReleased(t *testing.T) {
	p := newPool(t)
	spec := newSpec(t, "a", "good")
	spec.CallTimeout = 500 * time.Millisecond
	p.start(spec)
	stream, err := p.client("a").HandleStream(t.Context(), &pluginv1.HandleStreamRequest{Call: &pluginv1.Call{}})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if e := sdk.FromError(err); e.Reason != ReasonDeadline {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err = p.client("a").HandleStream(ctx, &pluginv1.HandleStreamRequest{Call: &pluginv1.Call{}}); err != nil {
		t.Fatal(err)
	}
	cancel() // an abandoned stream is released
	p.await("streams released", func() bool { return p.status("a").InFlight == 0 })
}

// Who calls a plugin that is being restarted is told when to try again; one that
// has failed for good is not tried again.
func TestUnavailableSaysWhenToRetry(t *testing.T) {
	cause := &sdk.Error{Reason: ReasonExitedEarly, Message: "exit status 2", Remedy: "look"}
	e := unavailable("detector.a", StateBackoff, cause, time.Now().Add(time.Minute))
	if !e.Retryable || e.RetryAfter <= 50*time.Second || e.RetryAfter > time.Minute || e.Remedy != "look" {
		t.Errorf("%+v", e)
	}
	if e := unavailable("detector.a", StateStarting, nil, time.Time{}); !e.Retryable || e.RetryAfter != 0 {
		t.Errorf("%+v", e)
	}
	if e := unavailable("detector.a", StateFailed, cause, time.Now().Add(time.Minute)); e.Retryable || e.RetryAfter != 0 {
		t.Errorf("%+v", e)
	}
}

func TestCrashLoopOpensTheBreaker(t *testing.T) {
	p := newPool(t)
	p.start(newSpec(t, "a", "exit"))
	p.await("failed", func() bool { return p.status("a").State == StateFailed })
	s := p.status("a")
	if s.LastError.Reason != ReasonCrashLoop || !strings.Contains(s.LastError.Message, "the database is on fire") ||
		!strings.Contains(s.LastError.Remedy, "sop plugin restart protocol.a") {
		t.Errorf("last error: %+v", s.LastError)
	}
	_, err := handle(t.Context(), p.client("a"), "echo", "")
	if e := sdk.FromError(err); e == nil || e.Reason != ReasonUnavailable {
		t.Errorf("call to a failed plugin: %v", err)
	}
	if err := p.Restart(t.Context(), "protocol.a"); sdk.FromError(err).Reason != ReasonExitedEarly {
		t.Errorf("restart: %v", err)
	}
}

func TestStoppedProcessIsReplaced(t *testing.T) {
	p := newPool(t, func(o *Options) { o.HealthInterval, o.HealthTimeout = 50*time.Millisecond, 100*time.Millisecond })
	p.start(newSpec(t, "a", "good"))
	if err := syscall.Kill(p.status("a").PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.await("replaced", func() bool { s := p.status("a"); return s.State == StateReady && s.Generation == 2 })
	p.mustEcho("a")
	if s := p.status("a"); s.LastError.Reason != ReasonUnhealthy {
		t.Errorf("last error: %v", s.LastError)
	}
}

// A plugin that says that it cannot go on is started anew, and why is told.
func TestStuckPluginIsReplaced(t *testing.T) {
	p := newPool(t, func(o *Options) { o.HealthInterval = 50 * time.Millisecond })
	spec := newSpec(t, "a", "strict")
	spec.CallTimeout = 300 * time.Millisecond
	p.start(spec)
	_, err := handle(t.Context(), p.client("a"), "hang", "")
	if e := sdk.FromError(err); e == nil || e.Reason != ReasonDeadline || !strings.Contains(e.Remedy, "sop plugin restart protocol.a") {
		t.Errorf("got %v", err)
	}
	p.await("replaced", func() bool { s := p.status("a"); return s.State == StateReady && s.Generation == 2 })
	if s := p.status("a"); s.LastError.Reason != ReasonUnhealthy || !strings.Contains(s.LastError.Message, "Protocol/Handle goes on") {
		t.Errorf("last error: %v", s.LastError)
	}
}

// What the lock file does not have any more, or has otherwise, is not restarted.
func TestRestartNeedsTheLock(t *testing.T) {
	spec := newSpec(t, "a", "good")
	var locked atomic.Value
	locked.Store(spec.Hash)
	p := newPool(t, func(o *Options) { o.Locked = func(string) (string, error) { return locked.Load().(string), nil } })
	p.start(spec)
	for hash, reason := range map[string]string{"": ReasonNotLocked, "sha256:other": ReasonChecksum} {
		locked.Store(hash)
		if e := sdk.FromError(p.Restart(t.Context(), "protocol.a")); e == nil || e.Reason != reason || !strings.Contains(e.Remedy, "sop plugin lock") {
			t.Errorf("%q: %v", hash, e)
		}
	}
	if s := p.status("a"); s.State != StateReady || s.Generation != 1 {
		t.Errorf("what serves was touched: %+v", s)
	}
	locked.Store(spec.Hash)
	if err := p.Restart(t.Context(), "protocol.a"); err != nil {
		t.Error(err)
	}
}

// A stopped process does not keep the host from stopping.
func TestCloseWithStoppedProcess(t *testing.T) {
	p := newPool(t)
	p.start(newSpec(t, "a", "good"))
	pid := p.status("a").PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 4*time.Second || alive(pid) {
		t.Errorf("closing took %v; alive: %v", took, alive(pid))
	}
}

func TestReloadUnderLoad(t *testing.T) {
	const callers, swaps = 64, 12 // make bench swaps 200 times
	reloadUnderLoad(t, callers, swaps)
}

// reloadUnderLoad swaps a plugin again and again while callers call it, and
// fails for any call that fails.
func reloadUnderLoad(t *testing.T, callers, swaps int) {
	p := newPool(t)
	spec := newSpec(t, "a", "good")
	p.start(spec)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var calls atomic.Int64
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := handle(t.Context(), p.client("a"), "echo", "x"); err != nil {
					t.Errorf("call failed: %v", err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for i := range swaps {
		next := spec.Clone()
		next.Args = []string{itoa(i)}
		change, err := p.Prepare(t.Context(), []*Spec{next})
		if err != nil {
			t.Fatal(err)
		}
		change.Commit()
	}
	cancel()
	wg.Wait()
	if g := p.status("a").Generation; g != swaps+1 {
		t.Errorf("generation %d after %d swaps", g, swaps)
	}
	t.Logf("%d calls over %d swaps", calls.Load(), swaps)
}

// A change that fails changes nothing.
func TestFailedChangeIsDiscarded(t *testing.T) {
	p := newPool(t)
	a, b := newSpec(t, "a", "good"), newSpec(t, "b", "good")
	p.start(a, b)
	before := p.Status()
	changed := a.Clone()
	changed.Args = []string{"new"}
	bad := newSpec(t, "c", "exit")
	_, err := p.Prepare(t.Context(), []*Spec{changed, b, bad})
	var pe *PrepareError
	if !errors.As(err, &pe) || pe.ID != "protocol.c" {
		t.Fatalf("got %v", err)
	}
	after := p.Status()
	if len(after) != 2 || after[0].PID != before[0].PID || after[1].PID != before[1].PID {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	p.mustEcho("a")
}

func TestChangeStartsStopsAndKeeps(t *testing.T) {
	p := newPool(t)
	a, b := newSpec(t, "a", "good"), newSpec(t, "b", "good")
	p.start(a, b)
	pid := p.status("a").PID
	c := newSpec(t, "c", "good")
	change, err := p.Prepare(t.Context(), []*Spec{a, c})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Action{"protocol.a": ActionUnchanged, "protocol.b": ActionStop, "protocol.c": ActionStart}
	for id, action := range want {
		if change.Actions[id] != action {
			t.Errorf("%s: %s, want %s", id, change.Actions[id], action)
		}
	}
	change.Commit()
	p.mustEcho("c")
	if p.status("a").PID != pid {
		t.Error("an unchanged plugin was restarted")
	}
	if _, err := handle(t.Context(), p.client("b"), "echo", ""); sdk.FromError(err).Reason != ReasonUnknown {
		t.Errorf("call to a removed plugin: %v", err)
	}
}

// A retired generation finishes the calls that it has.
func TestDrain(t *testing.T) {
	p := newPool(t)
	spec := newSpec(t, "a", "good")
	p.start(spec)
	result := make(chan error, 1)
	go func() {
		_, err := handle(t.Context(), p.client("a"), "sleep", "400ms")
		result <- err
	}()
	p.await("call in flight", func() bool { return p.status("a").InFlight == 1 })
	if err := p.Restart(t.Context(), "protocol.a"); err != nil {
		t.Fatal(err)
	}
	if s := p.status("a"); s.Generation != 2 || s.InFlight != 0 {
		t.Errorf("status: %+v", s)
	}
	if err := <-result; err != nil {
		t.Errorf("the call was cut: %v", err)
	}
}

// The program that is written to between its checks is not taken into service.
func TestBinaryReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "plugin")
	copyFile(t, path)
	spec := newSpec(t, "a", "good")
	spec.Command = path
	p := newPool(t)
	p.start(spec)
	// Replaced by rename while it runs: the running one goes on; a new one is refused.
	other := filepath.Join(dir, "other")
	copyFile(t, other)
	f, err := os.OpenFile(other, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("tampered"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	p.mustEcho("a")
	if err := p.Restart(t.Context(), "protocol.a"); sdk.FromError(err).Reason != ReasonChecksum {
		t.Errorf("restart: %v", err)
	}
	p.mustEcho("a")
}

// A clean-up daemon that deletes the socket does not cut the connection; the
// files go with the plugin all the same.
func TestSocketDeleted(t *testing.T) {
	p := newPool(t)
	p.start(newSpec(t, "a", "good"))
	if err := clearDir(p.runDir); err != nil {
		t.Fatal(err)
	}
	p.mustEcho("a")
}
