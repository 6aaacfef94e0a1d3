package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sop-host/sop/host/internal/sandbox"
)

var programs string // where the launcher of the tests is

func TestMain(m *testing.M) {
	code, err := withLauncher(m.Run)
	if leak := goleak.Find(); code == 0 && err == nil {
		err = leak
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withLauncher(run func() int) (code int, err error) {
	if programs, err = os.MkdirTemp("", "sop-verify-test-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(programs)) }()
	build := exec.Command("go", "build", "-trimpath", "-o", programs, "../../cmd/sop-sandbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the launcher: %w\n%s", err, out)
	}
	return run(), nil
}

// verifier remembers what the tests of a workspace do without a patch.
var verifier = sync.OnceValue(func() *Verifier {
	return &Verifier{Sandbox: &sandbox.Runner{Launcher: filepath.Join(programs, sandbox.LauncherName)}}
})

// profile is strict, with the caches of this machine.
func profile(t *testing.T) sandbox.Profile {
	t.Helper()
	p := sandbox.DefaultProfile
	p.Limits.Wall = 10 * time.Minute
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	cache, _ := sandbox.KnownCache("go-build", home, func(string) (string, bool) { return strings.TrimSpace(string(out)), true })
	p.Caches = append(p.Caches, cache)
	return p
}

var probed = sync.OnceValues(func() ([]sandbox.LevelProbe, error) {
	return verifier().Sandbox.Probe(context.Background())
})

// needsStrict skips a test, and says why, where there is no strict sandbox. In
// CI there must be one.
func needsStrict(t *testing.T) {
	t.Helper()
	levels, err := probed()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range levels {
		switch {
		case l.Level != sandbox.LevelStrict || l.Works:
		case os.Getenv("CI") != "":
			t.Fatalf("strict does not work here: %v", l.Refusal)
		default:
			t.Skipf("strict does not work here: %v", l.Refusal)
		}
	}
}

// gone removes a file.
const gone = "\x00gone"

// write makes files in a directory.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// patchOf is the patch that gives files of a workspace new content.
func patchOf(t *testing.T, dir string, edits map[string]string) *sandbox.Patch {
	t.Helper()
	set := new(sandbox.ChangeSet)
	made := make(map[string]bool)
	for _, name := range sortedKeys(edits) {
		for parent := filepath.Dir(name); parent != "." && !made[parent]; parent = filepath.Dir(parent) {
			made[parent] = true
			if _, err := os.Stat(filepath.Join(dir, parent)); errors.Is(err, os.ErrNotExist) {
				set.Changes = append(set.Changes, sandbox.Change{Path: parent, Op: sandbox.OpMkdir, Mode: 0o755})
			}
		}
		text := edits[name]
		c := sandbox.Change{Path: name, Op: sandbox.OpAdd, Mode: 0o644, Size: int64(len(text)), SHA256: hashOf(text)}
		if old, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			c.Op, c.OldMode, c.OldSHA256 = sandbox.OpModify, 0o644, hashOf(string(old))
		}
		if text == gone {
			c = sandbox.Change{Path: name, Op: sandbox.OpDelete, OldMode: c.OldMode, OldSHA256: c.OldSHA256}
		}
		set.Changes = append(set.Changes, c)
	}
	slices.SortStableFunc(set.Changes, func(a, b sandbox.Change) int { return strings.Compare(a.Path, b.Path) })
	return &sandbox.Patch{Set: set, Content: func(c sandbox.Change) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(edits[c.Path])), nil
	}}
}

// tell logs a verdict whole.
func tell(t *testing.T, v *Verdict) {
	t.Helper()
	for _, s := range v.Steps {
		t.Logf("%s: passed %v, %s, tests %+v, %v", s.Name, s.Passed, s.Why, s.Tests, s.Took)
		for _, r := range s.Runs {
			t.Logf("  %v: %v, exit %d, %v\n%s%s", r.Argv, r.Result.Status, r.Result.Exit, r.Result.Refusal, r.Result.Stdout.Text, r.Result.Stderr.Text)
		}
	}
}
