package plugin

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/protocol"
)

// probed is what this machine can do.
var probed = sync.OnceValues(func() (map[sandbox.Level]*sandbox.Refusal, error) {
	launcher, err := sandboxProgram()
	if err != nil {
		return nil, err
	}
	levels, err := (&sandbox.Runner{Launcher: launcher}).Probe(context.Background())
	out := make(map[sandbox.Level]*sandbox.Refusal)
	for _, l := range levels {
		out[l.Level] = l.Refusal
	}
	return out, err
})

// newView is a view of a workspace with a file a.txt at a level that this
// machine has.
func newView(t *testing.T, level sandbox.Level) View {
	t.Helper()
	levels, err := probed()
	if err != nil {
		t.Fatal(err)
	}
	if why := levels[level]; why != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s does not work here: %v", level, why)
		}
		t.Skipf("%s does not work here: %v", level, why)
	}
	launcher, err := sandboxProgram()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	profile := sandbox.DefaultProfile
	profile.Level = level
	return View{Runner: &sandbox.Runner{Launcher: launcher}, Spec: sandbox.Spec{Profile: profile, Workspace: dir}}
}

// dedicate starts a generation that is closed with the test.
func dedicate(t *testing.T, p *testPool, view View) *Dedicated {
	t.Helper()
	d, err := p.Dedicated(t.Context(), "protocol.p", view)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// closed ends a generation and returns what it has left behind.
func closed(t *testing.T, d *Dedicated) *sandbox.Outcome {
	t.Helper()
	out, err := d.Close()
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

func ask(ctx context.Context, d *Dedicated, operation, payload string) (string, error) {
	return handle(ctx, protocol.Kind.NewClient(d), operation, payload)
}

var viewLevels = []sandbox.Level{sandbox.LevelStrict, sandbox.LevelNSNoProc, sandbox.LevelLandlock, sandbox.LevelNone}

// A plugin in a view works on a copy of the workspace, and what it has done is
// known when it has ended.
func TestDedicated(t *testing.T) {
	for _, level := range viewLevels {
		t.Run(string(level), func(t *testing.T) {
			view := newView(t, level)
			asked := make(chan string, 1)
			p := newPool(t, callbacks(asked))
			spec := newSpec(t, "p", "good")
			spec.StopGrace = 10 * time.Second // with the race detector a program takes a second to exit
			p.start(spec)
			d := dedicate(t, p, view)
			if echo, err := ask(t.Context(), d, "echo", "hello"); err != nil || echo != "hello" {
				t.Errorf("%q, %v", echo, err)
			}
			file := filepath.Join(d.Places().Workspace, "a.txt")
			if old, err := ask(t.Context(), d, "read", file); err != nil || old != "old\n" {
				t.Errorf("%q, %v", old, err)
			}
			if _, err := ask(t.Context(), d, "write", file+" new"); err != nil {
				t.Error(err)
			}
			if level != sandbox.LevelNone {
				if _, err := ask(t.Context(), d, "read", "/etc/shadow"); err == nil {
					t.Error("it read /etc/shadow")
				}
			}
			_, err := ask(t.Context(), d, "call-back", "x")
			if back := level == sandbox.LevelStrict || level == sandbox.LevelNSNoProc; back != (err == nil) {
				t.Errorf("calling back: %v", err)
			}
			out := closed(t, d)
			if out.Status != sandbox.Exited || out.Exit != 0 || out.Level != level {
				t.Errorf("%v, exit %d, level %s, %s", out.Status, out.Exit, out.Level, out.Stderr.Text)
			}
			set, err := out.Changes(sandbox.DefaultChangeLimits)
			if err != nil || len(set.Changes) != 1 || set.Changes[0].Path != "a.txt" || set.Changes[0].Op != sandbox.OpModify {
				t.Errorf("%+v, %v", set, err)
			}
			if data, err := os.ReadFile(filepath.Join(view.Spec.Workspace, "a.txt")); err != nil || string(data) != "old\n" {
				t.Errorf("the workspace holds %q, %v", data, err)
			}
			if _, err := ask(t.Context(), d, "echo", "x"); sdk.FromError(err).Reason != ReasonUnavailable {
				t.Errorf("a call after the end: %v", err)
			}
			if pid, err := handle(t.Context(), p.client("p"), "pid", ""); err != nil || pid == "" {
				t.Errorf("the generation in service: %q, %v", pid, err)
			}
		})
	}
}

// What ends a plugin in a view is told to its caller, and nothing is left of it.
func TestDedicatedEnds(t *testing.T) {
	for _, c := range []struct {
		operation, payload string
		edit               func(*sandbox.Limits)
		reason             string
		status             sandbox.Status
		code               int
	}{
		{"exit", "", nil, ReasonCrashed, sandbox.Exited, 7},
		{"panic", "", nil, ReasonCrashed, sandbox.Exited, 2},
		{"stderr", "5000000", nil, ReasonCrashed, sandbox.Limited, sandbox.ExitOutput},
		{"wait", "", func(l *sandbox.Limits) { l.Wall = time.Second }, "", sandbox.Limited, sandbox.ExitTimeout},
	} {
		t.Run(c.operation, func(t *testing.T) {
			view := newView(t, sandbox.LevelStrict)
			if c.edit != nil {
				c.edit(&view.Spec.Profile.Limits)
			}
			p := newPool(t)
			p.start(newSpec(t, "p", "good"))
			d := dedicate(t, p, view)
			if _, err := ask(t.Context(), d, "daemon", "setsid"); err != nil {
				t.Fatal(err)
			}
			_, err := ask(t.Context(), d, c.operation, c.payload)
			if c.operation == "stderr" && err == nil { // it is ended after the answer
				<-d.view.done
				_, err = ask(t.Context(), d, "echo", "")
			}
			if err == nil || c.reason != "" && sdk.FromError(err).Reason != c.reason {
				t.Errorf("the call: %v", err)
			}
			out := closed(t, d)
			if out.Status != c.status || out.ExitCode() != c.code {
				t.Errorf("%v, code %d: %s", out.Status, out.ExitCode(), out.Stderr.Text)
			}
		})
	}
}

// A plugin that does not answer is killed with its grace, and one whose caller
// has gone away at once.
func TestDedicatedHangs(t *testing.T) {
	p := newPool(t)
	spec := newSpec(t, "p", "ignore-term")
	spec.StopGrace = 100 * time.Millisecond
	p.start(spec)
	view := newView(t, sandbox.LevelStrict)
	d := dedicate(t, p, view)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx, d, "hang", ""); sdk.FromError(err).Code != codes.DeadlineExceeded {
		t.Errorf("a call that hangs: %v", err)
	}
	if out := closed(t, d); out.Status != sandbox.Canceled {
		t.Errorf("%v", out.Status)
	}
	life, end := context.WithCancel(t.Context())
	d, err := p.Dedicated(life, "protocol.p", newView(t, sandbox.LevelStrict))
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, end)
	if _, err := ask(t.Context(), d, "hang", ""); sdk.FromError(err).Reason != ReasonCrashed {
		t.Errorf("a call whose run was ended: %v", err)
	}
	if out := closed(t, d); out.Status != sandbox.Canceled {
		t.Errorf("%v", out.Status)
	}
}

// The end of the pool is the end of what it has started.
func TestDedicatedEndsWithThePool(t *testing.T) {
	p := newPool(t)
	p.start(newSpec(t, "p", "good"))
	d := dedicate(t, p, newView(t, sandbox.LevelStrict))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !isClosed(d.view.done) {
		t.Error("it runs on")
	}
	if out := closed(t, d); out.Status != sandbox.Canceled {
		t.Errorf("%v", out.Status)
	}
	if _, err := p.Dedicated(t.Context(), "protocol.p", newView(t, sandbox.LevelStrict)); err == nil {
		t.Error("a pool that is closed started one")
	}
}

// What keeps a plugin from its view is told with the step and the cause.
func TestDedicatedRefused(t *testing.T) {
	for _, c := range []struct {
		name, mode string
		edit       func(*testing.T, *View)
		reason     string
		says       string
		refused    bool
	}{
		{"no launcher", "good", func(_ *testing.T, v *View) { v.Runner = &sandbox.Runner{Launcher: "/nowhere"} }, ReasonSandbox, "/nowhere", false},
		{"no space", "good", func(_ *testing.T, v *View) { v.Spec.Profile.Limits.Inodes = 2 }, ReasonSandbox, "scratch", true},
		{"no such tree", "good", func(_ *testing.T, v *View) { v.Spec.Profile.ReadOnly = []string{"/nowhere"} }, ReasonSandbox, "errno 2", true},
		{"exits early", "exit", func(*testing.T, *View) {}, ReasonExitedEarly, "on fire", false},
		{"no plugin", "print:hello", func(*testing.T, *View) {}, ReasonHandshake, "hello", false},
		{"refuses its configuration", "refuse-config", func(*testing.T, *View) {}, ReasonConfig, "limit must be positive", false},
		{"never serves", "silent", func(*testing.T, *View) {}, ReasonStartTimeout, "not ready", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			view := newView(t, sandbox.LevelStrict)
			c.edit(t, &view)
			p := newPool(t)
			spec := newSpec(t, "p", c.mode)
			if c.mode == "silent" {
				spec.StartTimeout = 500 * time.Millisecond
			}
			p.start(spec)
			_, err := p.Dedicated(t.Context(), "protocol.p", view)
			var failed *DedicatedError
			if !errors.As(err, &failed) || sdk.FromError(err).Reason != c.reason || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v", err)
			}
			if c.refused != (failed.Result.Refusal != nil) || c.refused && failed.Result.Refusal.Errno == 0 {
				t.Errorf("evidence %+v", failed.Result)
			}
		})
	}
	if _, err := newPool(t).Dedicated(t.Context(), "protocol.p", View{}); sdk.FromError(err).Reason != ReasonUnknown {
		t.Errorf("a plugin that is not configured: %v", err)
	}
}

// A program that is no longer the locked one is not started in a view either.
func TestDedicatedVerifies(t *testing.T) {
	view := newView(t, sandbox.LevelStrict)
	p := newPool(t)
	spec := newSpec(t, "p", "good")
	spec.Command = filepath.Join(t.TempDir(), "plugin")
	copyFile(t, spec.Command)
	p.start(spec)
	if err := os.Remove(spec.Command); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(spec.Command, []byte("#!/bin/sh\necho no\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Dedicated(t.Context(), "protocol.p", view); sdk.FromError(err).Reason != ReasonChecksum {
		t.Errorf("%v", err)
	}
}

// A socket that is a link to another is not followed.
func TestOpenSocketFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/run", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, name := range []string{"link", "file", "../file", "none"} {
		if f, err := sandbox.OpenSocket(in, name); err == nil {
			t.Errorf("%s was opened", name)
			f.Close()
		}
	}
}

const nobody = 65534

// TestDedicatedAsOrdinaryUser runs the tests of views as a user who has no powers.
func TestDedicatedAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is an ordinary user already")
	}
	if testing.Short() {
		t.Skip("-short: as this user only")
	}
	launcher, err := sandboxProgram()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sop-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := errors.Join(os.Chown(dir, nobody, nobody), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(filepath.Dir(launcher), "plugin.test")
	copyFile(t, binary)
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.run=^TestDedicated", "-test.skip=AsOrdinaryUser$")
	cmd.Dir = dir
	cmd.Env = []string{launcherVariable + "=" + launcher, "TMPDIR=" + dir, "HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as uid %d: %v\n%s", nobody, err, out)
	}
	t.Logf("as uid %d:\n%s", nobody, out)
}
