package plugin

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// launcherVariable names the launcher to the tests of another user.
const launcherVariable = "SOP_TEST_LAUNCHER"

// programs is where the launcher is; TestMain removes it.
var programs string

// sandboxProgram builds the launcher, once, where it stays for the whole run.
var sandboxProgram = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(launcherVariable); path != "" {
		return path, nil // built by the test of another user
	}
	dir, err := os.MkdirTemp("", "sop-plugin-test-")
	if err != nil {
		return "", err
	}
	programs = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sop-sandbox")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "../../cmd/sop-sandbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return path, nil
})

func withSandbox(o *Options) { o.SandboxLauncher = sandboxProgram }

// boxedSpec is a plugin that may see the system's programs at level landlock.
func boxedSpec(t *testing.T, mode string) *Spec {
	spec := newSpec(t, "p", mode)
	plan := launch.Plan{Level: launch.LevelLandlock}
	for _, dir := range []string{"/usr", "/bin", "/lib", "/lib64", "/dev/null"} {
		plan.Mounts = append(plan.Mounts, launch.Mount{Tree: launch.Tree{Path: dir}, Target: dir})
	}
	spec.Sandbox = &SandboxSpec{Profile: "box", Plan: plan}
	return spec
}

// The launcher becomes the plugin: same pid, its own arguments and environment,
// nothing of the launcher's open, and what is in force stands in the status.
func TestSandboxBecomesThePlugin(t *testing.T) {
	p := newPool(t, withSandbox)
	spec := boxedSpec(t, "good")
	p.start(spec)
	s := p.status("p")
	if s.State == StateFailed && strings.Contains(s.LastError.Message, "landlock") {
		t.Skipf("no landlock here: %v", s.LastError)
	}
	if s.State != StateReady || s.Sandbox.Profile != "box" || s.Sandbox.Level != "landlock" || s.Sandbox.LandlockABI == 0 {
		t.Fatalf("%s, %+v, %v", s.State, s.Sandbox, s.LastError)
	}
	env, err := handle(t.Context(), p.client("p"), "env", "")
	if err != nil || strings.Contains(env, "GOGC=off") || !strings.Contains(env, modeEnv+"=good") {
		t.Errorf("environment %q, %v", env, err)
	}
	if out, err := handle(t.Context(), p.client("p"), "fds", ""); err == nil {
		t.Errorf("it could read /proc: %s", out)
	}
	next := boxedSpec(t, "good")
	next.Sandbox.Plan.Mounts = append(next.Sandbox.Plan.Mounts, launch.Mount{Tree: launch.Tree{Path: "/srv"}, Target: "/srv", Optional: true})
	next.StateDir = spec.StateDir
	change, err := p.Prepare(t.Context(), []*Spec{next})
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	if s := p.status("p"); s.Generation != 2 {
		t.Errorf("a change of what it may see left generation %d", s.Generation)
	}
}

// What cannot be had refuses the start, once, with the step and the cause; what
// is the program's own fault is told as such.
func TestSandboxRefused(t *testing.T) {
	for _, c := range []struct {
		name         string
		launcher     func(*Options)
		edit         func(*Spec)
		reason, says string
	}{
		{"no launcher", func(*Options) {}, func(*Spec) {}, ReasonSandbox, "there is no launcher"},
		{
			"launcher not trusted", func(o *Options) {
				o.SandboxLauncher = func() (string, error) { return "", errors.New("it can be written to by others") }
			},
			func(*Spec) {}, ReasonSandbox, "written to by others",
		},
		{
			"no such tree", withSandbox, func(s *Spec) {
				s.Sandbox.Plan.Level = launch.LevelStrict
				s.Sandbox.Plan.Mounts[0].Path = "/nowhere"
			}, ReasonSandbox, "no such file or directory",
		},
		{
			"launcher of another kind", func(o *Options) {
				o.SandboxLauncher = func() (string, error) { return "/bin/true", nil }
			},
			func(*Spec) {}, ReasonSandbox, "without a word",
		},
		{"exits early", withSandbox, func(s *Spec) { s.Env[0] = modeEnv + "=exit" }, ReasonExitedEarly, "on fire"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPool(t, c.launcher)
			spec := boxedSpec(t, "good")
			c.edit(spec)
			p.start(spec)
			s := p.status("p")
			if s.LastError == nil || s.LastError.Reason != c.reason || !strings.Contains(s.LastError.Message, c.says) || s.LastError.Remedy == "" {
				t.Errorf("%s: %+v", s.State, s.LastError)
			}
			if c.reason == ReasonSandbox && s.State != StateFailed {
				t.Errorf("it is tried again: %s", s.State)
			}
		})
	}
}
