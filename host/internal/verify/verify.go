package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// A Verifier verifies patches. It may be used by several goroutines.
type Verifier struct {
	Sandbox   *sandbox.Runner
	Detectors Detectors // nil: patches for gaps cannot be verified

	baselines baselines
}

// A Spec says what to verify, and how.
type Spec struct {
	Workspace string // a directory, as it is without the patch
	Patch     *sandbox.Patch
	// Profile is for steps that name none, and for the detectors. Its level must
	// be one with namespaces.
	Profile sandbox.Profile
	Steps   []Step
	// Protect are patterns of files that judge the patch, beside
	// [DefaultProtect]; MayChange are those of protected files that the patch may
	// change nevertheless, since its task says so.
	Protect, MayChange []string
	// Gaps are what the patch is to close, every one of them.
	Gaps []Gap
}

// Runners of steps.
const (
	RunnerCommand = "command"
	RunnerGoTest  = "go-test"
)

// A Step is one thing that has to succeed.
type Step struct {
	Name     string
	Runner   string   // "" is RunnerCommand
	Command  []string // of RunnerCommand: it succeeds with exit code 0
	Packages []string // of RunnerGoTest; none is all
	Dir      string   // where it starts, relative to the workspace
	Env      []string // NAME=value
	Timeout  time.Duration
	// NoCoverage says that coverage is not to be measured, of RunnerGoTest.
	NoCoverage bool
	// MayBeEmpty says that it is no failure where there is no test to run, neither
	// without the patch nor with it, of RunnerGoTest.
	MayBeEmpty bool
	Profile    *sandbox.Profile // nil is that of the Spec
}

// Tested are the patterns of the packages that are tested, of RunnerGoTest.
func (s *Step) Tested() []string {
	if len(s.Packages) == 0 {
		return []string{"./..."}
	}
	return s.Packages
}

// A Verdict says whether a patch has passed, and why. The zero Verdict has not.
type Verdict struct {
	Passed bool          `json:"passed"`
	Why    string        `json:"why,omitempty"` // it has not
	Steps  []StepVerdict `json:"steps"`
	// Coverage is told for whoever decides; nothing rests on it.
	Coverage *Coverage     `json:"coverage,omitempty"`
	Took     time.Duration `json:"took_ns"`
}

// A StepVerdict is what one step has shown. The zero StepVerdict has not passed.
type StepVerdict struct {
	Name   string `json:"name"`
	Runner string `json:"runner"`
	Passed bool   `json:"passed"`
	Why    string `json:"why,omitempty"` // it has not
	// Runs are the evidence: the commands that were run for it, those that say
	// most about a failure at least.
	Runs  []Run         `json:"runs,omitempty"`
	Tests *Tests        `json:"tests,omitempty"` // of RunnerGoTest
	Gaps  []GapEvidence `json:"gaps,omitempty"`
	Took  time.Duration `json:"took_ns"`

	coverage   *Coverage // of RunnerGoTest; goes into that of the Verdict
	unanswered bool      // a detector has failed
}

// brokeDown says that what the step is done with has failed: the sandbox, or a
// detector.
func (s *StepVerdict) brokeDown() bool {
	return s.unanswered || slices.ContainsFunc(s.Runs, func(r Run) bool { return r.Result.Status == sandbox.Lost })
}

// A Run is the evidence of one command.
type Run struct {
	Argv   []string       `json:"argv"`
	Result sandbox.Result `json:"result"` // with no more than the ends of what it wrote
}

// Names of the steps that are always there or come by themselves.
const (
	StepProtected = "protected"
	StepGap       = "gap"
)

// maxSteps bounds a Spec.
const maxSteps = 64

func (s *Spec) validate() error {
	switch {
	case s.Patch == nil || s.Patch.Set == nil || len(s.Patch.Set.Changes) == 0:
		return errors.New("there is no patch to verify")
	case len(s.Steps) == 0 && len(s.Gaps) == 0:
		return errors.New("there is nothing by which the patch could be verified")
	}
	if err := s.validateSteps(); err != nil {
		return err
	}
	for _, pattern := range slices.Concat(s.Protect, s.MayChange) {
		if err := CheckPattern(pattern); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) validateSteps() error {
	if len(s.Steps) > maxSteps {
		return fmt.Errorf("there are more than %d steps", maxSteps)
	}
	profiles := []*sandbox.Profile{&s.Profile}
	for i := range s.Steps {
		step := &s.Steps[i]
		if step.Runner == "" {
			step.Runner = RunnerCommand
		}
		if step.Runner != RunnerCommand && step.Runner != RunnerGoTest {
			return fmt.Errorf("step %q: there is no runner %q", step.Name, step.Runner)
		}
		if (step.Runner == RunnerCommand) != (len(step.Command) > 0) {
			return fmt.Errorf("step %q: a command is for the runner %q, which needs one", step.Name, RunnerCommand)
		}
		if step.Profile != nil {
			profiles = append(profiles, step.Profile)
		}
	}
	for _, p := range profiles {
		if !p.Level.AtLeast(sandbox.LevelNSNoProc) {
			return fmt.Errorf("profile %q: level %s cannot show protected files read-only; verification takes strict or ns-noproc", p.Name, p.Level)
		}
	}
	return nil
}

// Verify verifies one patch. An error says that the request made no sense, that
// the host could not do its part, or, with [sandbox.ErrConflict], that the
// workspace is no longer what the patch was made for. Whatever else goes wrong
// is in a verdict that has not passed. When ctx is done everything is killed.
func (v *Verifier) Verify(ctx context.Context, spec Spec) (*Verdict, error) {
	spec.Steps = slices.Clone(spec.Steps)
	if err := spec.validate(); err != nil {
		return nil, err
	}
	w := &work{verifier: v, spec: &spec}
	verdict, err := judge(ctx, w.parts())
	if err != nil {
		return nil, err
	}
	verdict.conclude(len(w.parts()))
	verdict.Coverage = verdict.coverage()
	return verdict, nil
}

// judge does parts one after the other, until one has not passed.
func judge(ctx context.Context, parts []part) (*Verdict, error) {
	began := time.Now()
	verdict := new(Verdict)
	for i := range parts {
		part := &parts[i]
		partBegan := time.Now()
		step, err := part.try(ctx)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("verify: step %q: %w", part.name, err)
		}
		step.Name, step.Runner, step.Took = part.name, part.runner, time.Since(partBegan)
		verdict.Steps = append(verdict.Steps, *step)
		if !step.Passed {
			break
		}
	}
	verdict.Took = time.Since(began)
	return verdict, nil
}

// Check runs the steps of a Spec on views of the workspace, as it is or as the patch
// leaves it, and has the detectors look that the gaps are gone from there: whether
// what was made works where it is now. That it may be trusted was shown before, by
// Verify, and the tests of [RunnerGoTest] are therefore merely run. Errors are as
// those of Verify.
func (v *Verifier) Check(ctx context.Context, spec Spec) (*Verdict, error) {
	if len(spec.Steps) == 0 && len(spec.Gaps) == 0 {
		return nil, errors.New("verify: there is nothing to check")
	}
	spec.Steps = slices.Clone(spec.Steps)
	for i := range spec.Steps {
		if s := &spec.Steps[i]; s.Runner == RunnerGoTest {
			s.Runner, s.Command = RunnerCommand, append([]string{"go", "test"}, s.Tested()...)
			s.Env = slices.Concat(goSettings, s.Env)
		}
	}
	if err := spec.validateSteps(); err != nil {
		return nil, err
	}
	w := &work{verifier: v, spec: &spec}
	parts := w.steps()
	if len(spec.Gaps) > 0 {
		parts = append(parts, part{StepGap, StepGap, w.gone})
	}
	verdict, err := judge(ctx, parts)
	if err != nil {
		return nil, err
	}
	verdict.every(len(parts))
	return verdict, nil
}

// conclude passes a patch when all that there was to do has been done and has
// passed, and that was more than to look at protected files.
func (v *Verdict) conclude(wanted int) {
	v.every(wanted)
	v.Passed = v.Passed && wanted > 1
}

// every passes what has all its steps, which have passed.
func (v *Verdict) every(wanted int) {
	v.Passed = len(v.Steps) == wanted && wanted > 0
	for i := range v.Steps {
		if s := &v.Steps[i]; !s.Passed {
			v.Passed = false
			v.Why = s.Name + ": " + s.Why
		}
	}
}

// work is one verification.
type work struct {
	verifier  *Verifier
	spec      *Spec
	protected []string // files of the workspace
	all       []part
}

type part struct {
	name, runner string
	do           func(context.Context) (*StepVerdict, error)
}

// try does a part. Where that breaks down it says nothing of the patch yet, and a
// second time decides: a patch that brings down what judges it does so again.
func (p *part) try(ctx context.Context) (*StepVerdict, error) {
	first, err := p.do(ctx)
	if err != nil || first.Passed || !first.brokeDown() || ctx.Err() != nil {
		return first, err
	}
	second, err := p.do(ctx)
	if err != nil {
		return nil, err
	}
	second.Runs = append(first.Runs, second.Runs...)
	if !second.Passed {
		second.Why = fmt.Sprintf("the second time: %s; the first time: %s", second.Why, first.Why)
	}
	return second, nil
}

// parts are all steps in order.
func (w *work) parts() []part {
	if w.all != nil {
		return w.all
	}
	w.all = append([]part{{StepProtected, StepProtected, w.protect}}, w.steps()...)
	if len(w.spec.Gaps) > 0 {
		w.all = append(w.all, part{StepGap, StepGap, w.gap})
	}
	return w.all
}

// steps are those of the Spec, in order.
func (w *work) steps() (out []part) {
	for i := range w.spec.Steps {
		step := &w.spec.Steps[i]
		do := func(ctx context.Context) (*StepVerdict, error) { return w.command(ctx, step) }
		if step.Runner == RunnerGoTest {
			do = func(ctx context.Context) (*StepVerdict, error) { return w.goTest(ctx, step) }
		}
		out = append(out, part{step.Name, step.Runner, do})
	}
	return out
}

// command runs a command on the patched view.
func (w *work) command(ctx context.Context, step *Step) (*StepVerdict, error) {
	spec := w.viewFor(step, w.spec.Patch)
	spec.Argv = step.Command
	out, err := w.verifier.Sandbox.Run(ctx, spec)
	if err != nil {
		return nil, err
	}
	verdict := &StepVerdict{Runs: []Run{evidenceOf(spec.Argv, out)}}
	verdict.Passed, verdict.Why = succeeded(&out.Result)
	return verdict, out.Close()
}

// succeeded says whether a command has ended well, by what its sandbox says.
func succeeded(r *sandbox.Result) (passed bool, why string) {
	switch {
	case r.Status == sandbox.Exited && r.Exit == 0:
		return true, ""
	case r.Status == sandbox.Exited:
		return false, fmt.Sprintf("exit code %d", r.Exit)
	case r.Refusal != nil:
		return false, "the sandbox was refused at " + r.Refusal.String()
	case r.Status == sandbox.Limited:
		return false, "it was ended at its limit of " + strings.Join(r.Limits, ", ")
	case r.Status == sandbox.Killed:
		return false, "it was ended by " + r.Signal
	}
	return false, "it ended as " + r.Status.String()
}

// viewFor is what every run of a step has in common. Each has a view of its own.
func (w *work) viewFor(step *Step, patch *sandbox.Patch) sandbox.Spec {
	profile := w.spec.Profile
	if step.Profile != nil {
		profile = *step.Profile
	}
	if step.Timeout > 0 {
		profile.Limits.Wall = step.Timeout
	}
	return sandbox.Spec{
		Profile: profile, Workspace: w.spec.Workspace, Dir: step.Dir, Settings: slices.Clone(step.Env),
		Protected: w.protected, Patch: patch,
	}
}

// maxShown bounds what is kept of each stream as evidence, in bytes.
const maxShown = 32 << 10

func evidenceOf(argv []string, out *sandbox.Outcome) Run {
	r := Run{Argv: argv, Result: out.Result}
	for _, stream := range []*sandbox.Output{&r.Result.Stdout, &r.Result.Stderr} {
		if len(stream.Text) > maxShown {
			head, tail := stream.Text[:maxShown/4], stream.Text[len(stream.Text)-maxShown*3/4:]
			stream.Text, stream.Truncated = strings.ToValidUTF8(head+"\n…\n"+tail, "�"), true
		}
	}
	return r
}
