package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// Files of other users are read and changed in root's sandbox; in another
// user's they can be read, and a note says why they cannot be changed.
func TestForeignFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := workspace(t)
	if err := os.Chown(filepath.Join(dir, "a.txt"), 0, 4711); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(filepath.Join(dir, "b.txt"), 4711, 4711); err != nil {
		t.Fatal(err)
	}
	out := shell(t, dir, "echo more >> a.txt; rm b.txt; stat -c %u:%g a.txt")
	if got := strings.TrimSpace(out.Stdout.Text); got != strconv.Itoa(launch.RootID)+":4711" {
		t.Errorf("a.txt belongs to %s", got)
	}
	want := []string{"delete b.txt", "modify a.txt"}
	if got := brief(changes(t, out)); strings.Join(got, "; ") != strings.Join(want, "; ") || len(out.Notes) > 0 {
		t.Errorf("changes %v, notes %v", got, out.Notes)
	}
}

const foreignVariable = "SOP_TEST_FOREIGN" // a workspace with files of another user

func TestForeignNote(t *testing.T) {
	dir := os.Getenv(foreignVariable)
	if dir == "" {
		t.Skip("it takes root to make files for another user; TestOrdinaryUser does")
	}
	out := run(t, dir, Limits{}, "sh", "-c", "cat f && echo x >> f")
	if out.Status != Exited || out.Exit == 0 || !strings.Contains(strings.Join(out.Notes, " "), "2 entries belong to ids") {
		t.Errorf("%v, exit %d, notes %q", out.Status, out.Exit, out.Notes)
	}
}

func TestLargeArgument(t *testing.T) {
	large := strings.Repeat("x", 120_000)
	out := run(t, t.TempDir(), Limits{}, "sh", "-c", `echo ${#1}`, "sh", large)
	if strings.TrimSpace(out.Stdout.Text) != "120000" {
		t.Errorf("%v %v %q", out.Status, out.Refusal, out.Stdout.Text)
	}
}

func TestDescriptors(t *testing.T) {
	out := shell(t, t.TempDir(), "ls /proc/self/fd")
	if got := strings.Fields(out.Stdout.Text); strings.Join(got, " ") != "0 1 2 3" { // 3 is ls's own
		t.Errorf("the command has descriptors %v", got)
	}
}

func TestEnvironment(t *testing.T) {
	needs(t, LevelStrict)
	t.Setenv("SECRET", "x")
	out, err := runner().Run(t.Context(), Spec{Profile: DefaultProfile, Workspace: t.TempDir(), Argv: []string{"env"}, Env: []string{"SOP_SEED=1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	names := make(map[string]bool)
	for line := range strings.Lines(out.Stdout.Text) {
		name, _, _ := strings.Cut(line, "=")
		names[name] = true
	}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LANG", "TZ", "SOP_SEED"} {
		if !names[name] {
			t.Errorf("%s is not set", name)
		}
		delete(names, name)
	}
	if len(names) > 0 {
		t.Errorf("also set: %v", names)
	}
	if _, err := runner().Run(t.Context(), Spec{Profile: DefaultProfile, Workspace: t.TempDir(), Argv: []string{"env"}, Env: []string{"LD_PRELOAD=x"}}); err == nil {
		t.Error("LD_PRELOAD was accepted")
	}
}

func TestInputAndCancel(t *testing.T) {
	needs(t, LevelStrict)
	out, err := runner().Run(t.Context(), Spec{Profile: DefaultProfile, Workspace: t.TempDir(), Argv: []string{"cat"}, Stdin: []byte("the prompt")})
	if err != nil {
		t.Fatal(err)
	}
	if out.Stdout.Text != "the prompt" {
		t.Errorf("cat wrote %q", out.Stdout.Text)
	}
	out.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out, err = runner().Run(ctx, Spec{Profile: DefaultProfile, Workspace: t.TempDir(), Argv: []string{"sleep", "60"}}); err != nil {
		t.Fatal(err)
	}
	if out.Status != Canceled {
		t.Errorf("a canceled run has %v", out.Status)
	}
	out.Close()
}

func TestZeroResult(t *testing.T) {
	var r Result
	if r.Status != Refused || r.ExitCode() != ExitRefused {
		t.Errorf("a zero result is %v, exit code %d", r.Status, r.ExitCode())
	}
	if _, err := new(Outcome).Changes(DefaultChangeLimits); err == nil {
		t.Error("a zero outcome has changes")
	}
}

func TestNoSuchCommand(t *testing.T) {
	out := run(t, t.TempDir(), Limits{}, "no-such-command")
	if out.Status != Refused || out.Refusal == nil || out.Refusal.Stage != "command" || out.Refusal.Errno != syscall.ENOENT {
		t.Errorf("%v: %v", out.Status, out.Refusal)
	}
}

func TestCheckLauncher(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, LauncherName)
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := CheckLauncher(path); err != nil {
		t.Errorf("a launcher of our own: %v", err)
	}
	for _, test := range []struct {
		name  string
		spoil func() error
	}{
		{"writable", func() error { return os.Chmod(path, 0o777) }},
		{"in a writable place", func() error { return errors.Join(os.Chmod(path, 0o755), os.Chmod(dir, 0o777)) }},
		{"not executable", func() error { return errors.Join(os.Chmod(path, 0o644), os.Chmod(dir, 0o755)) }},
		{"not there", func() error { return os.Remove(path) }},
	} {
		if err := test.spoil(); err != nil {
			t.Fatal(err)
		}
		if CheckLauncher(path) == nil {
			t.Errorf("%s: it is accepted", test.name)
		}
	}
}

// A workspace that cannot be idmapped has root's own id in the sandbox, with
// none of its powers, and its processes are bounded all the same.
func TestRootsOwnID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root's sandboxes have another id")
	}
	needs(t, LevelStrict)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), ownID+"="+t.TempDir(), programsVariable+"="+programs)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	data, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var out []Result
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	attacks, forks := out[0], out[1]
	if attacks.Refusal != nil && attacks.Refusal.Stage == "pids" {
		t.Skipf("this kernel cannot bound processes by namespace: %v", attacks.Refusal)
	}
	if !attacks.OwnID || attacks.Level != LevelStrict {
		t.Fatalf("%+v", attacks)
	}
	made := reports(t, attacks.Stdout.Text)
	if len(made) < leastAttacks {
		t.Errorf("only %d attacks were made", len(made))
	}
	for _, r := range made {
		if r.Succeeded {
			t.Errorf("%s: not contained", r.Attack)
		}
	}
	if n, err := strconv.Atoi(strings.TrimSpace(forks.Stdout.Text)); err != nil || n > 512 {
		t.Errorf("the fork bomb got as far as %q", forks.Stdout.Text)
	}
}

const ownID = "SOP_TEST_OWN_ID"

func runWithOwnID() int {
	programs = os.Getenv(programsVariable)
	dir := os.Getenv(ownID)
	results, err := attackFromOverlay(dir)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(results)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// attackFromOverlay attacks from a workspace on an overlay, which no kernel
// idmaps.
func attackFromOverlay(dir string) (results []Result, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return nil, err
	}
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return nil, err
		}
	}
	workspace := filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	if err := unix.Mount("overlay", workspace, "overlay", 0, options); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(programs, "attacker"))
	if err != nil {
		return nil, err
	}
	goals, err := json.Marshal(targets{Secret: "/etc/hostname", Outside: dir, Cache: dir, Workspace: workspace, Mark: "mark", FD: 99, Env: "NOT_SET", Victim: os.Getpid(), TCP: "127.0.0.1:1", UDP: "127.0.0.1:1"})
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.WriteFile(filepath.Join(workspace, "attacker"), data, 0o755), os.WriteFile(filepath.Join(workspace, "targets.json"), goals, 0o644))
	if err != nil {
		return nil, err
	}
	for _, argv := range [][]string{{"./attacker", "try", "targets.json"}, {"./attacker", "bomb", "fork"}} {
		out, err := runner().Run(context.Background(), Spec{Profile: DefaultProfile, Workspace: workspace, Argv: argv})
		if err != nil {
			return nil, err
		}
		results = append(results, out.Result)
		if err := out.Close(); err != nil {
			return nil, err
		}
	}
	return results, nil
}
