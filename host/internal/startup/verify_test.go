package startup

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/verify"
	"github.com/sop-host/sop/sdk"
)

func TestVerifySpec(t *testing.T) {
	weak := config.SandboxProfile{Name: "go", Level: "ns-noproc"}
	cfg := &config.Config{
		SandboxProfiles: []config.SandboxProfile{weak},
		Workspaces: []config.Workspace{
			{Name: "configured", Path: t.TempDir(), Protect: []string{"ci/**"}, Verify: []config.VerifyStep{
				{Name: "build", Runner: "command", Command: []string{"make"}, Env: map[string]string{"B": "2", "A": "1"}, Timeout: time.Minute},
				{Name: "test", Runner: "go-test", SandboxProfile: "go"},
			}},
			{Name: "module", Path: t.TempDir()},
			{Name: "unknown", Path: t.TempDir()},
		},
	}
	if err := os.WriteFile(filepath.Join(cfg.Workspaces[1].Path, "go.mod"), []byte("module m\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec, err := verifySpec(cfg, "configured", nil)
	if err != nil || len(spec.Steps) != 2 || !slices.Equal(spec.Steps[0].Env, []string{"A=1", "B=2"}) || spec.Steps[1].Profile.Name != "go" || !slices.Equal(spec.Protect, []string{"ci/**"}) {
		t.Errorf("%+v, %v", spec, err)
	}
	if spec.Profile.Name != VerifyProfile || len(spec.Profile.Caches) != 2 || spec.Profile.Level != sandbox.LevelStrict {
		t.Errorf("%+v", spec.Profile)
	}
	if spec, err = verifySpec(cfg, "configured", []string{"gap", "test"}); err != nil || len(spec.Steps) != 1 || spec.Steps[0].Name != "test" {
		t.Errorf("%+v, %v", spec.Steps, err)
	}
	if _, err = verifySpec(cfg, "configured", []string{"lint"}); sdk.FromError(err).Reason != "VERIFY_STEP" {
		t.Errorf("an unknown step: %v", err)
	}
	if spec, err = verifySpec(cfg, "module", nil); err != nil || len(spec.Steps) != 3 || spec.Steps[1].Runner != verify.RunnerGoTest {
		t.Errorf("%+v, %v", spec.Steps, err)
	}
	if spec, err = verifySpec(cfg, "unknown", nil); err != nil || len(spec.Steps) != 0 {
		t.Errorf("%+v, %v", spec.Steps, err)
	}
	if _, err := verifySpec(cfg, "none", nil); err == nil {
		t.Error("a workspace that there is not")
	}
}

// textPatch gives a file of a tree another text.
func textPatch(t *testing.T, dir, name, text string) *sandbox.Patch {
	t.Helper()
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	c := sandbox.Change{Path: name, Op: sandbox.OpAdd, Mode: 0o644, Size: int64(len(text)), SHA256: hash(text)}
	if old, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
		c.Op, c.OldMode, c.OldSHA256 = sandbox.OpModify, 0o644, hash(string(old))
	}
	return &sandbox.Patch{
		Set:     &sandbox.ChangeSet{Changes: []sandbox.Change{c}},
		Content: func(sandbox.Change) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	}
}

// The detector that found a gap is asked again, in a view with the patch.
func TestVerifyGap(t *testing.T) {
	programs, dir := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", programs, "../../cmd/sop-sandbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	runner := &sandbox.Runner{Launcher: filepath.Join(programs, sandbox.LauncherName)}
	levels, err := runner.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !levels[0].Works {
		t.Skipf("strict does not work here: %v", levels[0].Refusal)
	}
	for name, text := range map[string]string{"a.txt": "bad\n", "b.txt": "fine\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pool := wordsPool(t)
	cfg := &config.Config{Workspaces: []config.Workspace{{Name: "w", Path: dir, Scan: config.Scan{MaxFileSize: 1 << 20}}}}
	found := &gap.Gap{Workspace: "w", Detector: "words", Rule: "words.bad", Location: gap.Location{Path: "a.txt"}, Message: "bad", Severity: gap.SeverityHigh}
	wanted, err := gapToVerify(cfg, "", found)
	if err != nil {
		t.Fatal(err)
	}
	verifier := newVerifier(pool, runner)
	for _, test := range []struct{ name, file, text, why string }{
		{"closed", "a.txt", "good\n", ""},
		{"elsewhere", "b.txt", "better\n", "still reported"},
		{"moved", "b.txt", "bad\n", "still reported"},
		{"hidden", ".gitignore", "a.txt\n", "still reported"},
	} {
		verdict, err := verifier.Verify(t.Context(), verify.Spec{
			Workspace: dir, Patch: textPatch(t, dir, test.file, test.text), Profile: sandbox.DefaultProfile, Gaps: []verify.Gap{wanted},
		})
		if err != nil {
			t.Fatal(err)
		}
		if verdict.Passed != (test.why == "") || !strings.Contains(verdict.Why, test.why) {
			t.Errorf("%s: passed %v: %s", test.name, verdict.Passed, verdict.Why)
		}
		if runs := verdict.Steps[1].Runs; len(runs) != 2 || runs[1].Result.Level != sandbox.LevelStrict {
			t.Errorf("%s: the evidence is %+v", test.name, runs)
		}
	}
}

// wordsPool is a pool with the test's detector, which reports files with "bad"
// in them.
func wordsPool(t *testing.T) *plugin.Pool {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := plugin.HashFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	pool, err := plugin.New(plugin.Options{RunDir: filepath.Join(tmp, "run"), HostVersion: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	err = pool.Start(t.Context(), []*plugin.Spec{{
		Kind: "detector", Name: "words", Command: exe, Hash: hash, Config: []byte(`{"word":"bad"}`), Env: []string{detectorEnv + "=1"}, StateDir: filepath.Join(tmp, "state"),
		StartTimeout: 30 * time.Second, CallTimeout: time.Minute, StopGrace: time.Second, DrainTimeout: time.Second, Restart: plugin.DefaultRestartPolicy,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return pool
}
