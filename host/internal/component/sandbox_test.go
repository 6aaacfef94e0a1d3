package component

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// launcherEnv names the launcher to a host that a test starts.
const launcherEnv = "SOP_TEST_LAUNCHER"

// programs is where the launcher is; TestMain removes it.
var programs string

// sandboxProgram builds the launcher, once, where it stays for the whole run.
var sandboxProgram = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(launcherEnv); path != "" {
		return path, nil // built by the test that started this host
	}
	dir, err := os.MkdirTemp("", "sop-component-test-")
	if err != nil {
		return "", err
	}
	programs = dir
	path := filepath.Join(dir, "sop-sandbox")
	build := exec.Command("go", "build", "-o", path, "../../cmd/sop-sandbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return path, nil
})

func withSandbox(o *Options) { o.SandboxLauncher = sandboxProgram }

// under isolates a component at a level, in a directory of its own.
func under(t *testing.T, level sandbox.Level, dir string) func(*Spec) {
	t.Helper()
	profile := sandbox.DefaultProfile
	profile.Name, profile.Level = "tight", level
	plan, err := sandbox.PluginPlan(profile, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(s *Spec) {
		s.Dir = dir
		s.Sandbox = &Sandbox{Profile: "tight", Plan: *plan, Enforce: true}
	}
}

// needsLevel skips where this machine does not have a level.
func needsLevel(t *testing.T, st Status) {
	t.Helper()
	if st.LastError != nil && st.LastError.Reason == ReasonSandbox {
		t.Skipf("not on this machine: %v", st.LastError)
	}
}

// tried says in a file what of this a component could do.
const tried = `
read_shadow() { cat /etc/shadow; }
write_outside() { echo x > "$OUTSIDE/made"; }
write_tmp() { echo x > /tmp/sop-component-escaped; }
see_host() { kill -0 "$HOST_PID"; }
write_own() { echo x > own; }
for what in read_shadow write_outside write_tmp see_host write_own; do
  if $what >/dev/null 2>&1; then echo "$what yes"; else echo "$what no"; fi
done > result
echo ready
exec sleep 300
`

// A component under a profile reaches what the profile shows and its own directory,
// and nothing else; it is found ready, logged and stopped as any other; and its
// status says which layers are in force.
func TestSandbox(t *testing.T) {
	for _, level := range []sandbox.Level{sandbox.LevelStrict, sandbox.LevelNSNoProc, sandbox.LevelLandlock} {
		t.Run(string(level), func(t *testing.T) {
			own, outside := t.TempDir(), t.TempDir()
			s := newSupervisor(t, t.TempDir(), withSandbox)
			s.start(shell("c", tried, under(t, level, own), saying("^ready"), func(s *Spec) {
				s.Env = []string{"OUTSIDE=" + outside, fmt.Sprintf("HOST_PID=%d", os.Getpid())}
			}))
			st := s.status("c")
			needsLevel(t, st)
			if st.State != StateReady || st.Sandbox.Profile != "tight" || st.Sandbox.Level != string(level) || st.Sandbox.Refused != "" {
				t.Fatalf("%+v, %v", st, st.LastError)
			}
			layers := strings.Join(st.Sandbox.Layers, ", ")
			for layer, want := range map[string]bool{"seccomp": true, "landlock ": true, "network namespace": level != sandbox.LevelLandlock} {
				if strings.Contains(layers, layer) != want {
					t.Errorf("the layers are %s", layers)
				}
			}
			result, err := os.ReadFile(filepath.Join(own, "result"))
			if want := "read_shadow no\nwrite_outside no\nwrite_tmp no\nsee_host no\nwrite_own yes\n"; err != nil || string(result) != want {
				t.Errorf("it could: %v\n%s", err, result)
			}
			pid := st.PID
			if _, err := s.Stop(t.Context(), "c", false); err != nil {
				t.Fatal(err)
			}
			awaitGone(t, pid)
			if st := s.await("c", StateStopped); st.Sandbox.Profile != "" {
				t.Errorf("nothing runs, and in force is %+v", st.Sandbox)
			}
		})
	}
}

// It is told by sd_notify through the sandbox that a component is ready, and asked
// at a socket in its directory.
func TestSandboxReadiness(t *testing.T) {
	dir, own := t.TempDir(), t.TempDir()
	s := newSupervisor(t, dir, withSandbox)
	notify := "import os,socket,time; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.sendto(b\"READY=1\",os.environ[\"NOTIFY_SOCKET\"]); time.sleep(300)"
	serve := "import http.server,socketserver\nclass S(socketserver.UnixStreamServer):\n  def get_request(self): return (super().get_request()[0], (\"\",0))\nS(\"s\", http.server.SimpleHTTPRequestHandler).serve_forever()"
	python := func(name, code string, edit ...func(*Spec)) *Spec {
		return shell(name, "", append([]func(*Spec){func(s *Spec) { s.Command, s.Args = "/usr/bin/python3", []string{"-c", code} }}, edit...)...)
	}
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Skip("there is no python3")
	}
	s.start(
		python("notify", notify, under(t, sandbox.LevelStrict, own), func(s *Spec) { s.Readiness = Readiness{Kind: ProbeNotify} }),
		python("http", serve, under(t, sandbox.LevelStrict, own), func(s *Spec) {
			s.Readiness = Readiness{Kind: ProbeHTTP, Target: "http://c/", Socket: filepath.Join(own, "s"), Interval: 10 * time.Millisecond, Timeout: time.Second}
		}),
	)
	for _, st := range s.Status() {
		needsLevel(t, st)
		if st.State != StateReady {
			t.Errorf("%s is %s: %v", st.Name, st.State, st.LastError)
		}
	}
}

// What cannot be had refuses the start, with the step, where the profile is to be
// enforced; where it need not be, the component runs, and its status says without
// what. What is the program's own fault is told as such.
func TestSandboxRefused(t *testing.T) {
	broken := func(enforce bool) func(*Spec) {
		return func(s *Spec) {
			missing := "/no/such/tree"
			s.Sandbox.Plan.Mounts = append(s.Sandbox.Plan.Mounts, launch.Mount{Tree: launch.Tree{Path: missing}, Target: missing})
			s.Sandbox.Enforce = enforce
		}
	}
	own := t.TempDir()
	bad := filepath.Join(own, "bad")
	if err := os.WriteFile(bad, []byte("not a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := newSupervisor(t, t.TempDir(), withSandbox)
	s.start(
		shell("enforced", "exec sleep 300", under(t, sandbox.LevelStrict, own), broken(true)),
		shell("lax", "exec sleep 300", under(t, sandbox.LevelStrict, own), broken(false)),
		shell("bad", "", under(t, sandbox.LevelLandlock, own), func(s *Spec) { s.Command, s.Sandbox.Enforce = bad, false }),
	)
	st := s.await("enforced", StateFailed)
	if e := st.LastError; e.Reason != ReasonSandbox || !strings.Contains(e.Message, "tight") || !strings.Contains(e.Remedy, "enforce = false") {
		t.Errorf("%+v", e)
	}
	if st := s.status("lax"); st.State != StateReady || st.Sandbox.Refused == "" || len(st.Sandbox.Layers) != 0 || st.Sandbox.Level != "" {
		t.Errorf("%s %+v", st.State, st.Sandbox)
	}
	if e := s.await("bad", StateFailed).LastError; e.Reason != ReasonCommand {
		t.Errorf("%+v", e)
	}
	without := newSupervisor(t, t.TempDir())
	without.start(shell("c", "exec sleep 300", under(t, sandbox.LevelStrict, own)))
	if e := without.await("c", StateFailed).LastError; e.Reason != ReasonSandbox || !strings.Contains(e.Message, "no launcher") {
		t.Errorf("%+v", e)
	}
}

// An isolated component that survives its host is taken back, still isolated, and
// what it has started goes with it in the end.
func TestSandboxSurvives(t *testing.T) {
	program, err := sandboxProgram()
	if err != nil {
		t.Fatal(err)
	}
	dir, own := t.TempDir(), t.TempDir()
	spec := shell("c", "sleep 300 & echo up; trap 'exit 0' TERM; wait", under(t, sandbox.LevelStrict, own), saying("^up"), func(s *Spec) { s.Survives = true })
	t.Setenv(launcherEnv, program)
	first := runHost(t, dir, []*Spec{spec})
	first.settled(t)
	was := first.status["c"]
	first.kill(t)
	needsLevel(t, was)
	s := newSupervisor(t, dir, withSandbox)
	s.start(spec)
	st := s.status("c")
	if st.PID != was.PID || !alive(st.PID) || st.State != StateReady || st.Sandbox.Level != "strict" || len(st.Sandbox.Layers) == 0 {
		t.Errorf("%+v, was %+v", st, was)
	}
	other := *spec
	weaker := *spec.Sandbox
	weaker.Enforce = false
	other.Sandbox = &weaker
	if spec.identity() == other.identity() {
		t.Error("a change of the profile does not show")
	}
	pid := st.PID
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("it was left")
	}
	if left := owned(s.owner); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCheckDir(t *testing.T) {
	for dir, fine := range map[string]bool{"/": false, "/etc/": false, "/srv/scp": true, "/home": false, "/var/lib/scp": true} {
		if (CheckDir(dir) == nil) != fine {
			t.Errorf("%s: %v", dir, CheckDir(dir))
		}
	}
}

// askNetwork says in a file whether it reaches a port of the host, and one of its own.
const askNetwork = `
import os, socket, time
def can(f):
  try:
    f()
    return "yes"
  except OSError:
    return "no"
def host(): socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), 5).close()
def own():
  s = socket.socket()
  s.bind(("127.0.0.1", 0))
  s.listen()
  socket.create_connection(s.getsockname(), 5).close()
open("result", "w").write("host %s, own %s" % (can(host), can(own)))
print("ready", flush=True)
time.sleep(300)
`

// A component has the network that its profile gives it: none, a loopback that
// nobody else is on, or the host's.
func TestSandboxNetwork(t *testing.T) {
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Skip("there is no python3")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	for _, tt := range []struct {
		level   sandbox.Level
		network string
		want    string // empty: it is refused
	}{
		{sandbox.LevelStrict, launch.NetworkNone, "host no, own no"},
		{sandbox.LevelStrict, launch.NetworkLoopback, "host no, own yes"},
		{sandbox.LevelStrict, launch.NetworkFull, "host yes, own yes"},
		{sandbox.LevelLandlock, launch.NetworkNone, "host no, own no"},
		{sandbox.LevelLandlock, launch.NetworkLoopback, ""},
		{sandbox.LevelLandlock, launch.NetworkFull, "host yes, own yes"},
	} {
		t.Run(string(tt.level)+" "+tt.network, func(t *testing.T) {
			own := t.TempDir()
			s := newSupervisor(t, t.TempDir(), withSandbox)
			s.start(shell("c", "", under(t, tt.level, own), saying("^ready"), func(s *Spec) {
				s.Command, s.Args = "/usr/bin/python3", []string{"-c", askNetwork}
				s.Env = []string{fmt.Sprintf("PORT=%d", listener.Addr().(*net.TCPAddr).Port)}
				s.Sandbox.Plan.Network = tt.network
			}))
			st := s.status("c")
			if tt.want == "" {
				if st.State != StateFailed || st.LastError.Reason != ReasonSandbox || !strings.Contains(st.LastError.Message, "no network of its own") {
					t.Errorf("%s, %+v", st.State, st.LastError)
				}
				return
			}
			needsLevel(t, st)
			if got, err := os.ReadFile(filepath.Join(own, "result")); err != nil || string(got) != tt.want {
				t.Errorf("%s, %v; want %s; %v", got, err, tt.want, st.LastError)
			}
		})
	}
}
