package verify

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/scratch"
)

// Tests is what running Go tests has shown. A test is expected when it passed
// without the patch.
type Tests struct {
	Packages   int      `json:"packages"` // with tests
	Expected   int      `json:"expected"`
	Passed     int      `json:"passed"`
	Failed     int      `json:"failed"`
	Skipped    int      `json:"skipped"`
	Challenged int      `json:"challenged"`         // tests that were made to fail, and did
	Problems   []string `json:"problems,omitempty"` // the first of them
}

const maxProblems = 20

func (t *Tests) problem(format string, args ...any) {
	if len(t.Problems) < maxProblems {
		t.Problems = append(t.Problems, fmt.Sprintf(format, args...))
	}
}

// goTest counts the tests that passed without the patch and wants each to pass
// with it.
//
// Test programs are built first, all of them, while nothing of the patch is
// run; then each is run in a sandbox of its own, so that none can have a say in
// another. What a program writes about its own tests could be made up by the
// code that is tested, which lies in the same process. Therefore the tests of
// each package that the patch can reach are made to fail, in a second build, and
// that has to show.
func (w *work) goTest(ctx context.Context, step *Step) (verdict *StepVerdict, err error) {
	place, err := scratch.New("verify")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, place.Close()) }()
	dir := place.Path()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the sandbox has another id
		return nil, err
	}
	g := &goTests{work: w, step: step, dir: dir, verdict: &StepVerdict{Tests: new(Tests)}}
	before, err := g.before(ctx)
	if err != nil || before == nil {
		return g.verdict, err
	}
	b := &building{patch: w.spec.Patch}
	if err := g.build(ctx, b); err != nil || b.failed != "" {
		g.unbuilt(b)
		return g.verdict, err
	}
	if err := g.compare(ctx, before, b.programs); err != nil {
		return nil, err
	}
	if len(g.verdict.Tests.Problems) == 0 {
		if err := g.challenge(ctx, before); err != nil {
			return nil, err
		}
	}
	g.conclude(before, b)
	if g.verdict.Passed && len(b.programs) == 0 {
		g.verdict.coverage = &Coverage{NotMeasured: "there are no tests"}
	} else if g.verdict.Passed {
		if err := g.measureCoverage(ctx, before); err != nil {
			return nil, err
		}
	}
	return g.verdict, nil
}

type goTests struct {
	work    *work
	step    *Step
	dir     string // for what goes into sandboxes and comes out of them
	inputs  int
	verdict *StepVerdict
	list    *sandbox.Output // see packages
}

func (g *goTests) conclude(before *baseline, b *building) {
	t := g.verdict.Tests
	isEmpty := !before.unbuilt && len(before.packages) == 0 && len(b.programs) == 0
	needsTests := !isEmpty || !g.step.MayBeEmpty
	if len(t.Problems) == 0 && t.Passed == 0 && needsTests {
		t.problem("no test was run")
	}
	g.verdict.Passed = len(t.Problems) == 0
	if !g.verdict.Passed {
		g.verdict.Why = t.Problems[0]
	}
}

// keepScript is what the go command runs instead of the tests: it keeps the
// program that would have been run, under the name of its directory.
const keepScript = `set -e
mkdir -p "/workspace/$SOP_KEEP"
cp "$1" "/workspace/$SOP_KEEP/$(pwd -P | tr / %)"
rm -f "$1"
`

// input makes a directory that a sandbox can be shown.
func (g *goTests) input() (string, error) {
	g.inputs++
	dir := filepath.Join(g.dir, fmt.Sprint(g.inputs))
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // the sandbox has another id
		return "", err
	}
	return dir, os.Chmod(dir, 0o755) //nolint:gosec // whatever the umask
}

// A view of the step, with room for what the go command writes.
func (g *goTests) view(patch *sandbox.Patch) sandbox.Spec {
	spec := g.work.viewFor(g.step, patch)
	spec.Settings = slices.Concat(goSettings, spec.Settings)
	l := &spec.Profile.Limits
	*l = l.OrDefault()
	l.OutputBytes = max(l.OutputBytes, leastTestOutput)
	return spec
}

const leastTestOutput = 32 << 20

// building is what test programs are built of, and what comes of it.
type building struct {
	patch    *sandbox.Patch    // nil: without it
	overlay  map[string][]byte // in the place of files of the workspace
	flags    []string
	packages []string // patterns; none: those of the step

	programs map[string]string // the file of each, by the directory of its package
	failed   string            // why some could not be built; empty: all were
	run      Run               // of what failed
}

// build builds test programs. An error says that the host could not do its part.
func (g *goTests) build(ctx context.Context, b *building) (err error) {
	input, err := g.input()
	if err != nil {
		return err
	}
	keep := sandbox.Input{Name: "keep", Path: input}
	if err := writeInput(input, "keep.sh", []byte(keepScript)); err != nil {
		return err
	}
	spec := g.view(b.patch)
	spec.Inputs = append(spec.Inputs, keep)
	kept := ".sop-tests-" + rand.Text() // a name that nobody could know
	spec.Env = append(spec.Env, "SOP_KEEP="+kept)
	spec.Argv = []string{"go", "test", "-exec=/bin/sh " + keep.Dir() + "/keep.sh", "-count=1", "-vet=off"}
	spec.Argv = append(spec.Argv, b.flags...)
	if b.overlay != nil {
		if err := writeOverlay(input, keep.Dir(), b.overlay); err != nil {
			return err
		}
		spec.Argv = append(spec.Argv, "-overlay="+keep.Dir()+"/overlay.json")
	}
	if len(b.packages) == 0 {
		b.packages = g.step.Tested()
	}
	spec.Argv = append(spec.Argv, b.packages...)
	out, err := g.work.verifier.Sandbox.Run(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if passed, why := succeeded(&out.Result); !passed {
		b.failed, b.run = why, evidenceOf(spec.Argv, out)
		return nil
	}
	b.programs, err = g.take(out, kept)
	return err
}

// unbuilt has the verdict say why test programs could not be built.
func (g *goTests) unbuilt(b *building) {
	if b.failed != "" {
		g.verdict.Runs = append(g.verdict.Runs, b.run)
		g.verdict.Why = "the tests cannot be built: " + b.failed
	}
}

// take copies what was kept out of the view.
func (g *goTests) take(out *sandbox.Outcome, kept string) (map[string]string, error) {
	names, err := out.Names(kept)
	if err != nil {
		return nil, err
	}
	programs := make(map[string]string, len(names))
	for _, name := range names {
		dir, inside := strings.CutPrefix(strings.ReplaceAll(name, "%", "/"), "/workspace")
		dir = strings.TrimPrefix(dir, "/")
		if dir == "" {
			dir = "."
		}
		if !inside || !filepath.IsLocal(dir) {
			return nil, fmt.Errorf("the package in %q lies outside of the workspace", name)
		}
		input, err := g.input()
		if err != nil {
			return nil, err
		}
		if err := copyProgram(out, path.Join(kept, name), filepath.Join(input, "test")); err != nil {
			return nil, err
		}
		programs[dir] = input
	}
	return programs, nil
}

func copyProgram(out *sandbox.Outcome, name, target string) (err error) {
	from, err := out.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()                                                       //nolint:errcheck // only read from
	to, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755) //nolint:gosec // the sandbox has another id
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Chmod(0o755)
}

func writeInput(dir, name string, data []byte) error {
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return err
	}
	return os.Chmod(file, 0o644) //nolint:gosec // whatever the umask
}

// writeOverlay writes files and the list by which the go command takes them
// for those of the workspace.
func writeOverlay(input, shown string, files map[string][]byte) error {
	list := struct{ Replace map[string]string }{make(map[string]string)}
	for name, data := range files {
		own := fmt.Sprintf("%d.go", len(list.Replace))
		if err := writeInput(input, own, data); err != nil {
			return err
		}
		list.Replace[path.Join("/workspace", name)] = path.Join(shown, own)
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return writeInput(input, "overlay.json", data)
}

// testSpec is how a test program is run in its package's directory.
func (g *goTests) testSpec(patch *sandbox.Patch, dir, input string) sandbox.Spec {
	spec := g.view(patch)
	program := sandbox.Input{Name: "test", Path: input}
	spec.Inputs = append(spec.Inputs, program)
	if spec.Dir = dir; dir == "." {
		spec.Dir = ""
	}
	within := spec.Profile.Limits.Wall
	spec.Argv = []string{
		program.Dir() + "/test", "-test.v=test2json", "-test.paniconexit0", "-test.count=1",
		"-test.timeout=" + (within - within/10).Round(time.Second).String(),
	}
	return spec
}

// run runs one test program.
func (g *goTests) run(ctx context.Context, patch *sandbox.Patch, dir, input string) (*report, error) {
	spec := g.testSpec(patch, dir, input)
	out, err := g.work.verifier.Sandbox.Run(ctx, spec)
	if err != nil {
		return nil, err
	}
	r := &report{tests: parseTests(out.Stdout.Text), text: out.Stdout.Text, evidence: evidenceOf(spec.Argv, out)}
	r.ok, r.why = succeeded(&out.Result)
	r.evidence.Argv[0] = path.Join(dir, path.Base(dir)+".test")
	return r, out.Close()
}

// A report is what one test program has shown.
type report struct {
	tests    map[string]*testResult
	text     string
	ok       bool // it ended well, as its sandbox says
	why      string
	evidence Run
}

// compare runs every program with the patch and wants what passed before to
// pass again.
func (g *goTests) compare(ctx context.Context, before *baseline, programs map[string]string) error {
	t := g.verdict.Tests
	for dir := range before.packages {
		if _, built := programs[dir]; !built {
			t.problem("%s: its tests are gone", dir)
		}
	}
	dirs := sortedKeys(programs)
	for _, dir := range dirs {
		r, err := g.run(ctx, g.work.spec.Patch, dir, programs[dir])
		if err != nil {
			return err
		}
		problems := len(t.Problems)
		t.judge(dir, before.packages[dir], r)
		if len(t.Problems) > problems {
			g.verdict.Runs = append(g.verdict.Runs, r.evidence)
		}
	}
	return nil
}

// judge compares the tests of one package with those that passed before.
func (t *Tests) judge(dir string, expected map[string]pass, r *report) {
	t.Packages++
	t.Expected += len(expected)
	if !r.ok {
		t.problem("%s: %s", dir, r.why)
	}
	for _, name := range sortedKeys(r.tests) {
		result := r.tests[name]
		switch {
		case strings.Contains(name, "/"):
		case result.verdict() == testPassed:
			t.Passed++
		case result.verdict() == testSkipped:
			t.Skipped++
		default:
			t.Failed++
			t.problem("%s: %s %s", dir, name, result.verdict())
		}
	}
	now := passedTests(r.tests)
	for _, name := range sortedKeys(expected) {
		result := r.tests[name]
		switch {
		case result == nil:
			t.problem("%s: %s was not run", dir, name)
		case result.verdict() != testPassed:
			t.problem("%s: %s passed before and is now %s", dir, name, result.verdict())
		case now[name].runs != expected[name].runs:
			t.problem("%s: %s was run %d times, %d before", dir, name, now[name].runs, expected[name].runs)
		case now[name].subtests < expected[name].subtests:
			t.problem("%s: %s has %d passed subtests, %d before", dir, name, now[name].subtests, expected[name].subtests)
		}
	}
}
