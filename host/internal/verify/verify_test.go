package verify

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
)

func fileText(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func command(name string, argv ...string) Step {
	return Step{Name: name, Command: argv, Timeout: time.Minute}
}

// shellSpec verifies a patch of a small tree by commands.
func shellSpec(t *testing.T, steps ...Step) Spec {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.txt": "one\n", "go.mod": "module m\n", "x_test.go": "package m\n"})
	return Spec{Workspace: dir, Patch: patchOf(t, dir, map[string]string{"a.txt": "two\n", "b/c.txt": "new\n"}), Profile: sandbox.DefaultProfile, Steps: steps}
}

func mustVerify(t *testing.T, spec Spec) *Verdict {
	t.Helper()
	needsStrict(t)
	verdict, err := verifier().Verify(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}

func TestSteps(t *testing.T) {
	spec := shellSpec(t, command("patched", "sh", "-ec", "grep two a.txt; cat b/c.txt; echo x > made"), command("fresh", "sh", "-c", "test ! -e made && echo fresh"))
	v := mustVerify(t, spec)
	if !v.Passed || len(v.Steps) != 3 || v.Steps[2].Runs[0].Result.Stdout.Text != "fresh\n" {
		tell(t, v)
		t.Error(v.Why)
	}
	if fileText(t, filepath.Join(spec.Workspace, "a.txt")) != "one\n" {
		t.Error("the workspace is changed")
	}
}

func TestFailingSteps(t *testing.T) {
	for name, test := range map[string]struct {
		step Step
		why  string
	}{
		"exit code":  {command("s", "sh", "-c", "echo why >&2; exit 3"), "exit code 3"},
		"killed":     {command("s", "sh", "-c", "kill -9 $$"), "SIGKILL"},
		"no program": {command("s", "no-such-program"), "refused at command"},
		"too slow":   {Step{Name: "s", Command: []string{"sleep", "60"}, Timeout: time.Second}, "limit of wall"},
		"kills init": {command("s", "sh", "-c", "kill -9 1; kill -9 -1"), "exit code 1"},
	} {
		t.Run(name, func(t *testing.T) {
			v := mustVerify(t, shellSpec(t, test.step, command("never", "true")))
			if v.Passed || !strings.Contains(v.Why, test.why) || len(v.Steps) != 2 {
				tell(t, v)
				t.Errorf("passed %v: %s", v.Passed, v.Why)
			}
		})
	}
}

// What was integrated is checked where it lies, and is not changed by that.
func TestCheck(t *testing.T) {
	needsStrict(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.txt": "one\n"})
	spec := Spec{Workspace: dir, Profile: sandbox.DefaultProfile, Steps: []Step{command("there", "sh", "-ec", "grep one a.txt; echo x > a.txt")}}
	v, err := verifier().Check(t.Context(), spec)
	if err != nil || !v.Passed || len(v.Steps) != 1 || v.Steps[0].Runs[0].Result.Stdout.Text != "one\n" {
		t.Fatalf("%v %+v", err, v)
	}
	if fileText(t, filepath.Join(dir, "a.txt")) != "one\n" {
		t.Error("the workspace is changed")
	}
	spec.Steps = []Step{command("fails", "false"), command("never", "true")}
	if v, err = verifier().Check(t.Context(), spec); err != nil || v.Passed || v.Why != "fails: exit code 1" || len(v.Steps) != 1 {
		t.Errorf("%v %+v", err, v)
	}
	spec.Steps = nil
	if _, err = verifier().Check(t.Context(), spec); err == nil {
		t.Error("nothing was checked, and that passed")
	}
	spec.Steps = []Step{command("s", "true")}
	spec.Profile.Level = sandbox.LevelNone
	if _, err = verifier().Check(t.Context(), spec); err == nil {
		t.Error("a check ran bare")
	}
}

// Protected files are the workspace's own and stay so, for whoever runs there.
func TestProtectedFiles(t *testing.T) {
	script := `cat x_test.go; ! echo x >> x_test.go; ! rm -f x_test.go; ! mv x_test.go y; chmod 777 x_test.go || true; cat x_test.go; touch other`
	v := mustVerify(t, shellSpec(t, command("s", "sh", "-c", script)))
	if got := v.Steps[1].Runs[0].Result.Stdout.Text; !v.Passed || got != "package m\npackage m\n" {
		tell(t, v)
		t.Errorf("%q", got)
	}
}

func TestJudgesAreNotChanged(t *testing.T) {
	for name, edits := range map[string]map[string]string{
		"modify":      {"x_test.go": "package m // changed\n"},
		"delete":      {"x_test.go": gone},
		"add go.mod":  {"sub/go.mod": "module sub\n"},
		"add runner":  {"Makefile": "test:\n"},
		"add plugin":  {"deep/conftest.py": ""},
		"vendor tree": {"vendor/testing/t.go": "package testing\n"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := shellSpec(t, command("s", "true"))
			spec.Patch = patchOf(t, spec.Workspace, edits)
			v := mustVerify(t, spec)
			if v.Passed || len(v.Steps) != 1 || v.Steps[0].Name != StepProtected || !strings.Contains(v.Why, sortedKeys(edits)[0]) {
				t.Errorf("passed %v: %s", v.Passed, v.Why)
			}
			spec.MayChange = []string{"**"}
			if v := mustVerify(t, spec); !v.Passed {
				t.Errorf("where the task says it may: %s", v.Why)
			}
		})
	}
	link := shellSpec(t, command("s", "true"))
	link.Patch.Set.Changes = []sandbox.Change{{Path: "y_test.go", Op: sandbox.OpSymlink, Target: "a.txt", SHA256: hashOf("a.txt")}}
	if v := mustVerify(t, link); v.Passed {
		t.Error("a link is taken for a test")
	}
	added := shellSpec(t, command("s", "true"))
	added.Patch = patchOf(t, added.Workspace, map[string]string{"z_test.go": "package m\n"})
	if v := mustVerify(t, added); !v.Passed {
		t.Errorf("a new test: %s", v.Why)
	}
}

func TestRefusedSpecs(t *testing.T) {
	good := shellSpec(t, command("s", "true"))
	for name, spoil := range map[string]func(*Spec){
		"no patch":        func(s *Spec) { s.Patch = nil },
		"empty patch":     func(s *Spec) { s.Patch = &sandbox.Patch{Set: new(sandbox.ChangeSet)} },
		"nothing to do":   func(s *Spec) { s.Steps = nil },
		"no command":      func(s *Spec) { s.Steps = []Step{{Name: "s"}} },
		"unknown runner":  func(s *Spec) { s.Steps = []Step{{Name: "s", Runner: "magic"}} },
		"two of a kind":   func(s *Spec) { s.Steps = []Step{{Name: "s", Runner: RunnerGoTest, Command: []string{"true"}}} },
		"weak level":      func(s *Spec) { s.Profile.Level = sandbox.LevelLandlock },
		"broken pattern":  func(s *Spec) { s.Protect = []string{"["} },
		"absolute":        func(s *Spec) { s.MayChange = []string{"/etc"} },
		"forbidden name":  func(s *Spec) { s.Steps = []Step{{Name: "s", Command: []string{"true"}, Env: []string{"PATH=/tmp"}}} },
		"directory above": func(s *Spec) { s.Steps = []Step{{Name: "s", Command: []string{"true"}, Dir: "../"}} },
	} {
		spec := good
		spoil(&spec)
		if v, err := verifier().Verify(t.Context(), spec); err == nil {
			t.Errorf("%s: %+v", name, v)
		}
	}
	stale := good
	write(t, good.Workspace, map[string]string{"a.txt": "three\n"})
	if _, err := verifier().Verify(t.Context(), stale); !errors.Is(err, sandbox.ErrConflict) {
		t.Errorf("a patch for another tree: %v", err)
	}
}

func TestZeroVerdict(t *testing.T) {
	var v Verdict
	v.conclude(1)
	if v.Passed || (&StepVerdict{}).Passed {
		t.Error("nothing has passed")
	}
	v.Steps = []StepVerdict{{Passed: true}, {Passed: true}}
	if v.conclude(3); v.Passed {
		t.Error("a step is missing")
	}
}

func TestPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"*_test.go", "a/b/c_test.go", true},
		{"*_test.go", "a_test.go.txt", false},
		{"vendor/**", "vendor/a/b", true},
		{"vendor/**", "a/vendor/b", false},
		{"**/testdata/**", "a/testdata/x", true},
		{"**/testdata/**", "testdata/x", true},
		{"a/*.go", "a/b/c.go", false},
		{"a/**/c.go", "a/c.go", true},
	} {
		if got := matchesAny([]string{test.pattern}, test.name); got != test.want {
			t.Errorf("%s %s: %v", test.pattern, test.name, got)
		}
	}
}

func TestParseTests(t *testing.T) {
	got := parseTests("noise \x16=== RUN   TestA\n--- PASS: TestFake (0.00s)\n\x16=== RUN   TestA/x\n    \x16--- PASS: TestA/x (0.00s)\n\x16--- PASS: TestA (0.00s)\n\x16=== RUN   TestB\n\x16--- SKIP: TestB (0.00s)\n\x16=== RUN   TestC\n\x16=== RUN   TestD\n\x16--- FAIL: TestD\n\x16--- PASS: TestD\n")
	want := map[string]string{"TestA": testPassed, "TestA/x": testPassed, "TestB": testSkipped, "TestC": testUnclear, "TestD": testFailed}
	if len(got) != len(want) {
		t.Errorf("%d tests: %v", len(got), sortedKeys(got))
	}
	for name, state := range want {
		if got[name].verdict() != state {
			t.Errorf("%s is %s", name, got[name].verdict())
		}
	}
	if p := passedTests(got); len(p) != 1 || p["TestA"] != (pass{1, 1}) {
		t.Errorf("%v", p)
	}
}

func TestReachedBy(t *testing.T) {
	set := &sandbox.ChangeSet{Changes: []sandbox.Change{{Path: "b/sub/data.txt"}}}
	list := "/workspace/a\tm/a\tfmt\n/workspace/a\tm/a.test\tm/a m/b fmt\n/workspace/b\tm/b\tfmt\n/workspace/c\tm/c.test\tm/c fmt\n"
	got := reachedBy(set, list)
	if !slices.Equal(sortedKeys(got), []string{"a", "b"}) {
		t.Errorf("%v", got)
	}
}
