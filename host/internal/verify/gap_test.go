package verify

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/sandbox"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// A fakeDetectors finds what its function says, with and without a patch.
type fakeDetectors func(patched bool, files []string) ([]*pluginv1.ScanResponse, error)

// Open implements [Detectors].
func (d fakeDetectors) Open(_ context.Context, _ string, spec sandbox.Spec) (Detector, error) {
	return &fakeDetector{answer: d, patched: spec.Patch != nil}, nil
}

type fakeDetector struct {
	answer  fakeDetectors
	patched bool
	files   []string
	ended   chan struct{}
	out     []*pluginv1.ScanResponse
	err     error
}

func (d *fakeDetector) Scan(context.Context) (ScanStream, error) {
	d.ended = make(chan struct{})
	return d, nil
}
func (d *fakeDetector) Root() string                     { return "/workspace" }
func (d *fakeDetector) Close() (*sandbox.Outcome, error) { return nil, nil }

func (d *fakeDetector) Send(m *pluginv1.ScanRequest) error {
	for _, f := range m.GetFiles().GetChanged() {
		d.files = append(d.files, f.GetPath())
	}
	return nil
}

func (d *fakeDetector) CloseSend() error {
	d.out, d.err = d.answer(d.patched, d.files)
	close(d.ended)
	return nil
}

func (d *fakeDetector) Recv() (*pluginv1.ScanResponse, error) {
	<-d.ended
	if d.err != nil {
		return nil, d.err
	}
	if len(d.out) == 0 {
		return nil, io.EOF
	}
	first := d.out[0]
	d.out = d.out[1:]
	return first, nil
}

func found(rule, path, symbol string, severity pluginv1.Severity) *pluginv1.Finding {
	return &pluginv1.Finding{Rule: rule, Severity: severity, Message: rule + " " + symbol, Location: &pluginv1.Location{Path: path, Line: 1, Symbol: symbol}}
}

func answers(covered []string, findings ...*pluginv1.Finding) []*pluginv1.ScanResponse {
	return []*pluginv1.ScanResponse{{Findings: findings, Covered: covered}, {Summary: &pluginv1.ScanSummary{}}}
}

func TestGapStep(t *testing.T) {
	const low, high = pluginv1.Severity_SEVERITY_LOW, pluginv1.Severity_SEVERITY_HIGH
	gapAt := found("r", "a.txt", "F", low)
	other := found("r", "a.txt", "G", low)
	covered := []string{"a.txt", "b/c.txt"}
	for name, test := range map[string]struct {
		before, after []*pluginv1.ScanResponse
		err           error
		also          []string // further symbols whose gaps are to be closed
		why           string   // "" passes
	}{
		"closed":          {before: answers(covered, gapAt, other), after: answers(covered, other)},
		"still there":     {before: answers(covered, gapAt), after: answers(covered, gapAt), why: "still reported"},
		"renamed":         {before: answers(covered, gapAt), after: answers(covered, other), why: "still reported"},
		"both closed":     {before: answers(covered, gapAt, other), after: answers(covered), also: []string{"G"}},
		"one of two":      {before: answers(covered, gapAt, other), after: answers(covered, other), also: []string{"G"}, why: "r is still reported 1 × at a.txt, before the patch 2 ×"},
		"one still there": {before: answers(covered, gapAt, other), after: answers(covered, gapAt), also: []string{"G"}, why: "r at a.txt (F) is still reported"},
		"one renamed":     {before: answers(covered, gapAt, other), after: answers(covered, found("r", "a.txt", "H", low)), also: []string{"G"}, why: "still reported"},
		"not looked at":   {before: answers(covered, gapAt), after: answers(nil), why: "did not look"},
		"never was":       {before: answers(covered), after: answers(covered), why: "scan the workspace again"},
		"no summary":      {before: answers(covered, gapAt), after: answers(covered)[:1], why: "without a summary"},
		"after summary":   {before: answers(covered, gapAt), after: append(answers(covered), answers(covered)...), why: "went on"},
		"crash":           {before: answers(covered, gapAt), err: errors.New("it crashed"), why: "it crashed"},
		"new and severe":  {before: answers(covered, gapAt), after: answers(covered, found("s", "b/c.txt", "", high)), why: "brings a gap as severe"},
		"new and minor":   {before: answers(covered, gapAt), after: answers(covered, found("s", "b/c.txt", "", pluginv1.Severity_SEVERITY_INFO))},
		"new elsewhere":   {before: answers(covered, gapAt), after: answers(covered, found("s", "z.txt", "", high))},
		"known and moved": {before: answers(covered, gapAt, found("s", "a.txt", "", high)), after: answers(covered, found("s", "a.txt", "", high))},
	} {
		t.Run(name, func(t *testing.T) {
			spec := shellSpec(t)
			for _, symbol := range append([]string{"F"}, test.also...) {
				spec.Gaps = append(spec.Gaps, Gap{Detector: "detector.x", Workspace: "w", Rule: "r", Path: "a.txt", Symbol: symbol, Severity: low})
			}
			v := &Verifier{Detectors: fakeDetectors(func(patched bool, files []string) ([]*pluginv1.ScanResponse, error) {
				if list := strings.Join(files, " "); patched != strings.Contains(list, "b/c.txt") {
					t.Errorf("patched %v: the detector is told of %s", patched, list)
				}
				if patched {
					return test.after, test.err
				}
				return test.before, nil
			})}
			verdict, err := v.Verify(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			if verdict.Passed != (test.why == "") || !strings.Contains(verdict.Why, test.why) {
				t.Errorf("passed %v: %s", verdict.Passed, verdict.Why)
			}
		})
	}
}

// What was handed over is looked at as it is: with the patch in a view, or without.
func TestGapsAreGone(t *testing.T) {
	const low = pluginv1.Severity_SEVERITY_LOW
	gapAt, other := found("r", "a.txt", "F", low), found("r", "a.txt", "G", low)
	for name, test := range map[string]struct {
		answer []*pluginv1.ScanResponse
		err    error
		path   string
		why    string // "" passes
	}{
		"gone":          {answer: answers([]string{"a.txt"}, other), path: "a.txt"},
		"still there":   {answer: answers([]string{"a.txt"}, gapAt), path: "a.txt", why: "r at a.txt (F) is still reported"},
		"not looked at": {answer: answers(nil), path: "a.txt", why: "did not look"},
		"no such file":  {answer: answers(nil), path: "gone.txt"},
		"crash":         {err: errors.New("it crashed"), path: "a.txt", why: "it crashed"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, made := range []bool{false, true} {
				spec := shellSpec(t)
				spec.Steps = nil
				if made {
					spec.Patch = nil
				}
				spec.Gaps = []Gap{{Detector: "detector.x", Workspace: "w", Rule: "r", Path: test.path, Symbol: "F", Severity: low}}
				v := &Verifier{Detectors: fakeDetectors(func(patched bool, _ []string) ([]*pluginv1.ScanResponse, error) {
					if patched == made {
						t.Errorf("the view is patched: %v", patched)
					}
					return test.answer, test.err
				})}
				verdict, err := v.Check(t.Context(), spec)
				if err != nil {
					t.Fatal(err)
				}
				if verdict.Passed != (test.why == "") || !strings.Contains(verdict.Why, test.why) {
					t.Errorf("passed %v: %s", verdict.Passed, verdict.Why)
				}
			}
		})
	}
}
