package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// programs is where the launcher and the attacker of the tests are. It can be
// read by every user, and written to by none but the first.
var programs string

func TestMain(m *testing.M) {
	if os.Getenv(degraded) != "" {
		os.Exit(runDegraded())
	}
	if os.Getenv(ownID) != "" {
		os.Exit(runWithOwnID())
	}
	if os.Getenv(asHost) != "" {
		os.Exit(runAsHost())
	}
	code, err := withPrograms(m.Run)
	err = errors.Join(err, runner().Close())
	if leak := goleak.Find(); code == 0 && err == nil {
		err = leak
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const (
	programsVariable = "SOP_TEST_PROGRAMS" // built by the test of another user
	asHost           = "SOP_TEST_AS_HOST"  // only run one command, named there
)

func withPrograms(run func() int) (code int, err error) {
	if programs = os.Getenv(programsVariable); programs != "" {
		return run(), nil
	}
	if programs, err = os.MkdirTemp("", "sop-sandbox-test-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(programs)) }()
	if err := os.Chmod(programs, 0o755); err != nil {
		return 1, err
	}
	build := exec.Command("go", "build", "-trimpath", "-o", programs, "../../cmd/sop-sandbox", "./attacker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs of the tests: %w\n%s", err, out)
	}
	return run(), nil
}

func launcherPath() string { return filepath.Join(programs, LauncherName) }

// runner starts runs the way the host does.
var runner = sync.OnceValue(func() *Runner { return &Runner{Launcher: launcherPath()} })

var probes = sync.OnceValues(func() ([]LevelProbe, error) { return runner().Probe(context.Background()) })

// needs skips a test, and says why, where this machine cannot do what it is
// about. In CI it must.
func needs(t *testing.T, level Level) {
	t.Helper()
	levels, err := probes()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range levels {
		switch {
		case l.Level != level || l.Works:
		case os.Getenv("CI") != "":
			t.Fatalf("%s does not work here: %v", level, l.Refusal)
		default:
			t.Skipf("%s does not work here: %v", level, l.Refusal)
		}
	}
}

// run does one run in a workspace and fails the test where the host could not
// do its part.
func run(t *testing.T, workspace string, limits Limits, argv ...string) *Outcome {
	t.Helper()
	needs(t, LevelStrict)
	profile := DefaultProfile
	profile.Limits = limits
	out, err := runner().Run(t.Context(), Spec{Profile: profile, Workspace: workspace, Argv: argv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	})
	return out
}

// shell runs a script that must succeed.
func shell(t *testing.T, workspace, script string) *Outcome {
	t.Helper()
	out := run(t, workspace, Limits{Wall: time.Minute}, "sh", "-ec", script)
	if out.Status != Exited || out.Exit != 0 {
		t.Fatalf("%s: %v, exit %d, refusal %v\n%s%s", script, out.Status, out.Exit, out.Refusal, out.Stdout.Text, out.Stderr.Text)
	}
	return out
}

// runAsHost is a host process that a test can kill.
func runAsHost() int {
	var argv []string
	if err := json.Unmarshal([]byte(os.Getenv(asHost)), &argv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	programs = os.Getenv(programsVariable)
	out, err := runner().Run(context.Background(), Spec{Profile: DefaultProfile, Workspace: programs, Argv: argv})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(out.Status, out.Refusal)
	return 0
}

const nobody = 65534

// TestOrdinaryUser runs the other tests as a user who has no powers.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is an ordinary user already")
	}
	if testing.Short() {
		t.Skip("-short: as this user only")
	}
	dir, err := os.MkdirTemp("", "sop-sandbox-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chown(dir, nobody, nobody), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(programs, "sandbox.test")
	data, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(binary, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign")
	err = errors.Join(os.Mkdir(foreign, 0o777), os.Chmod(foreign, 0o777), os.WriteFile(filepath.Join(foreign, "f"), nil, 0o666), os.Chmod(filepath.Join(foreign, "f"), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.run=^Test", "-test.skip=^TestOrdinaryUser$")
	cmd.Dir = dir
	cmd.Env = []string{programsVariable + "=" + programs, foreignVariable + "=" + foreign, "TMPDIR=" + dir, "HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as uid %d: %v\n%s", nobody, err, out)
	}
	t.Logf("as uid %d:\n%s", nobody, out)
}
