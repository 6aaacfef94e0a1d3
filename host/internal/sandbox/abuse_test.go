package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const secretText = "the-secret-of-the-host"

// targets are what the attacker goes for. The fields are those of attacker.
type targets struct {
	Secret, Outside, Mark, Workspace, Cache, TCP, UDP, Abstract, Unix string

	Victim int
	Env    string
	FD     int
}

type report struct {
	Attack    string
	Succeeded bool
	Detail    string
}

// outside puts up everything that there is to be attacked.
func outside(t *testing.T) targets {
	t.Helper()
	dir := t.TempDir()
	mark := "sop-mark-" + strconv.Itoa(os.Getpid()) + "-" + filepath.Base(dir) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	out := targets{
		Secret: filepath.Join(dir, "secret"), Outside: filepath.Join(dir, "outside"), Mark: mark, Cache: filepath.Join(dir, "cache"),
		Workspace: filepath.Join(dir, "workspace"), Env: "SECRET_OF_HOST", Abstract: "@" + mark, Unix: filepath.Join(dir, "s"),
	}
	openUp(t, dir)
	for _, made := range []string{out.Outside, out.Cache, out.Workspace} {
		if err := errors.Join(os.Mkdir(made, 0o777), os.Chmod(made, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(out.Secret, []byte(secretText+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(out.Env, secretText)
	out.TCP = serve(t, "tcp", "127.0.0.1:0")
	serve(t, "unix", out.Abstract)
	serve(t, "unix", out.Unix)
	if err := os.Chmod(out.Unix, 0o777); err != nil {
		t.Fatal(err)
	}
	out.UDP = serveUDP(t)
	out.FD = leak(t, out.Secret)
	out.Victim = startVictim(t, mark)
	return out
}

// openUp lets other users through to a temporary directory of the test.
func openUp(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// serve answers every connection with one byte.
func serve(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("!"))
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func serveUDP(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 1)
		for {
			_, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			conn.WriteTo([]byte("!"), from)
		}
	}()
	return conn.LocalAddr().String()
}

// leak opens a descriptor that every child would inherit.
func leak(t *testing.T, path string) int {
	t.Helper()
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	return fd
}

// startVictim starts a process of the user who attacks from outside.
func startVictim(t *testing.T, mark string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "attacker"), "bomb", "sleep", mark+"-victim")
	cmd.SysProcAttr = asAttacker()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

// asAttacker is who attacks from outside: never root.
func asAttacker() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// arm puts the attacker and its targets into a workspace.
func arm(t *testing.T, dir string, goals targets) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(programs, "attacker"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "attacker"), data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err = json.Marshal(goals)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "targets.json"), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func reports(t *testing.T, text string) []report {
	t.Helper()
	var out []report
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		var r report
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, scanner.Text())
		}
		out = append(out, r)
	}
	return out
}

// leastAttacks is how many there are, so that an attacker that dies early does
// not look like a sandbox that holds.
const leastAttacks = 77

func TestAbuseIsContained(t *testing.T) {
	goals := outside(t)
	arm(t, goals.Workspace, goals)
	out := run(t, goals.Workspace, Limits{Wall: 2 * time.Minute}, "./attacker", "try", "targets.json")
	if out.Status != Exited || out.Exit != 0 || out.Level != LevelStrict {
		t.Fatalf("%v, exit %d, level %q, refusal %v\n%s", out.Status, out.Exit, out.Level, out.Refusal, out.Stderr.Text)
	}
	made := reports(t, out.Stdout.Text)
	if len(made) < leastAttacks {
		t.Errorf("only %d attacks were made, want %d", len(made), leastAttacks)
	}
	for _, r := range made {
		if r.Succeeded {
			t.Errorf("%s: not contained", r.Attack)
		} else {
			t.Logf("%-18s %s", r.Attack, r.Detail)
		}
	}
	for _, path := range []string{
		filepath.Join(goals.Outside, goals.Mark), filepath.Join(goals.Workspace, goals.Mark), filepath.Join(goals.Cache, "poison"),
		"/tmp/" + goals.Mark, "/usr/" + goals.Mark,
	} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was written outside: %v", path, err)
		}
	}
	if len(out.Denied) == 0 {
		t.Error("no denied call was recorded")
	}
	t.Logf("denied: %v", out.Denied)
}

// harmless attacks may be made outside of any sandbox, by a user without
// powers. They show that the attacker can do what it is said not to.
var harmless = []string{
	"read-secret", "read-host-passwd", "write-outside", "write-cache", "write-workspace", "tcp", "udp", "abstract-socket", "path-socket",
	"af-vsock", "af-alg", "netlink", "ptrace-host", "ptrace-child", "kill-host", "read-host-memory", "list-host", "setuid-exec", "setuid-file",
	"io-uring", "userfaultfd", "perf-event", "fanotify", "handles", "userns-unshare", "userns-clone", "userns-clone3", "descriptor-leak",
	"tiocsti", "tiocsti-high", "tioclinux", "environment", "kallsyms", "cgroup", "shm", "memfd", "int80", "personality", "keyctl", "add-key",
}

func TestAttacksSucceedOutside(t *testing.T) {
	goals := outside(t)
	arm(t, goals.Workspace, goals)
	goals.FD = 3
	data, err := json.Marshal(goals)
	if err == nil {
		err = os.WriteFile(filepath.Join(goals.Workspace, "targets.json"), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	succeeded := 0
	for _, name := range harmless {
		secret, err := os.Open(goals.Secret)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "./attacker", "one", "targets.json", name)
		cmd.Dir, cmd.SysProcAttr, cmd.ExtraFiles = goals.Workspace, asAttacker(), []*os.File{secret}
		cmd.Env = append(os.Environ(), "TMPDIR="+goals.Outside)
		out, err := cmd.CombinedOutput()
		secret.Close()
		if err == nil {
			succeeded++
		} else {
			t.Logf("%s does not work here: %s", name, bytes.TrimSpace(out))
		}
	}
	if succeeded < 20 {
		t.Errorf("only %d attacks succeeded outside of a sandbox, want 20: the attacker proves nothing", succeeded)
	}
	t.Logf("%d of %d succeeded", succeeded, len(harmless))
}

var small = Limits{
	Wall: 20 * time.Second, CPU: 10 * time.Second, MemoryBytes: 256 << 20, Pids: 40, OpenFiles: 128,
	OutputBytes: 64 << 10, DiskBytes: 32 << 20, Inodes: 500,
}

func bomb(t *testing.T, limits Limits, name string, more ...string) *Outcome {
	t.Helper()
	dir := t.TempDir()
	arm(t, dir, targets{})
	out := run(t, dir, limits, append([]string{"./attacker", "bomb", name}, more...)...)
	if out.Status == Refused || out.Status == Lost {
		t.Fatalf("%v: %v %v", out.Status, out.Refusal, out.Notes)
	}
	return out
}

// reached is the number that a bomb has reported.
func reached(t *testing.T, out *Outcome) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(out.Stdout.Text))
	if err != nil {
		t.Fatalf("%v, exit %d: %s%s", out.Status, out.Exit, out.Stdout.Text, out.Stderr.Text)
	}
	return n
}

func TestBombs(t *testing.T) {
	for _, test := range []struct {
		name string
		most int
	}{
		{"fork", 40 + 16},
		{"file", 32 << 20},
		{"files", 500},
		{"inodes", 500},
		{"descriptors", 128},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := bomb(t, small, test.name)
			if n := reached(t, out); n > test.most || n < test.most/8 {
				t.Errorf("it got as far as %d, the limit is %d", n, test.most)
			}
		})
	}
	for _, test := range []struct {
		name  string
		limit string
		exit  int
	}{
		{"shared", LimitMemory, ExitOutOfMemory},
		{"memory-many", LimitMemory, ExitOutOfMemory},
		{"output", LimitOutput, ExitOutput},
		{"time", LimitWall, ExitTimeout},
		{"cpu", LimitCPU, ExitTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			limits := small
			if test.limit == LimitWall {
				limits.Wall = time.Second
			}
			if test.limit == LimitCPU {
				limits.CPU = time.Second
			}
			if test.limit == LimitMemory {
				limits.Pids = 400
			}
			out := bomb(t, limits, test.name)
			if out.Status != Limited || len(out.Limits) == 0 || out.Limits[0] != test.limit || out.ExitCode() != test.exit {
				t.Errorf("%v, limits %v, exit code %d; want %s and %d", out.Status, out.Limits, out.ExitCode(), test.limit, test.exit)
			}
			if int64(len(out.Stdout.Text)) > limits.OutputBytes {
				t.Errorf("%d bytes of output were kept", len(out.Stdout.Text))
			}
		})
	}
	t.Run("memory", func(t *testing.T) {
		out := bomb(t, small, "memory")
		if out.Status == Limited && out.Limits[0] == LimitMemory {
			return // seen before its own limit stopped it
		}
		if n := reached(t, out); n > int(small.MemoryBytes) {
			t.Errorf("it took %d bytes", n)
		}
	})
}

// alive finds processes by a word on their command line.
func alive(word string) (pids []string) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil && bytes.Contains(data, []byte(word)) {
			pids = append(pids, filepath.Base(filepath.Dir(name)))
		}
	}
	return pids
}

func TestDaemonDiesWithItsRun(t *testing.T) {
	word := "sop-daemon-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	out := bomb(t, small, "daemon", word)
	if out.Status != Exited || !strings.HasPrefix(out.Stdout.Text, "left ") {
		t.Fatalf("%v: %s%s", out.Status, out.Stdout.Text, out.Stderr.Text)
	}
	if pids := alive(word); len(pids) > 0 {
		t.Errorf("processes %v have outlived the run", pids)
	}
}

func TestRunDiesWithItsHost(t *testing.T) {
	needs(t, LevelStrict)
	word := "sop-orphan-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	script := "echo " + word + "; (sleep 600; : " + word + ") & sleep 600"
	argv, err := json.Marshal([]string{"sh", "-c", script})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), asHost+"="+string(argv), programsVariable+"="+programs)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	host := strconv.Itoa(cmd.Process.Pid)
	within(t, 10*time.Second, "the run has not begun", func() bool { return len(withoutPID(alive(word), host)) >= 2 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	within(t, time.Second, "processes are left", func() bool { return len(alive(word)) == 0 })
}

func withoutPID(pids []string, pid string) (others []string) {
	for _, p := range pids {
		if p != pid {
			others = append(others, p)
		}
	}
	return others
}

// within looks again and again: what it looks for happens in other processes,
// which tell nobody.
func within(t *testing.T, most time.Duration, complaint string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(most); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal(complaint)
		}
	}
}
