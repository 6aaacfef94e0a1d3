package verify

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/sandbox"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// What breaks down is done a second time, which decides; what a patch fails is not.
func TestSecondTime(t *testing.T) {
	ended := func(status sandbox.Status) StepVerdict {
		return StepVerdict{Why: status.String(), Runs: []Run{{Result: sandbox.Result{Status: status}}}}
	}
	passed := StepVerdict{Passed: true, Runs: []Run{{Result: sandbox.Result{Status: sandbox.Exited}}}}
	for name, tt := range map[string]struct {
		times []StepVerdict
		pass  bool
		why   []string
	}{
		"passed":                  {times: []StepVerdict{passed}, pass: true},
		"failed":                  {times: []StepVerdict{ended(sandbox.Exited)}, why: []string{"exited"}},
		"at a limit":              {times: []StepVerdict{ended(sandbox.Limited)}, why: []string{"limited"}},
		"lost, then passed":       {times: []StepVerdict{ended(sandbox.Lost), passed}, pass: true},
		"lost, then failed":       {times: []StepVerdict{ended(sandbox.Lost), ended(sandbox.Exited)}, why: []string{"second time: exited", "first time: lost"}},
		"lost twice":              {times: []StepVerdict{ended(sandbox.Lost), ended(sandbox.Lost)}, why: []string{"second time: lost"}},
		"unanswered, then passed": {times: []StepVerdict{{Why: "gone", unanswered: true}, passed}, pass: true},
	} {
		t.Run(name, func(t *testing.T) {
			done, runs := 0, 0
			p := part{do: func(context.Context) (*StepVerdict, error) {
				v := tt.times[done]
				done++
				runs += len(v.Runs)
				return &v, nil
			}}
			v, err := p.try(t.Context())
			if err != nil || v.Passed != tt.pass || done != len(tt.times) || len(v.Runs) != runs {
				t.Errorf("done %d times: %+v, %v", done, v, err)
			}
			for _, why := range tt.why {
				if !strings.Contains(v.Why, why) {
					t.Errorf("%q does not say %q", v.Why, why)
				}
			}
		})
	}
}

// A detector that fails once, such as one that was just being replaced, does not
// cost the patch its verdict.
func TestDetectorFailsOnce(t *testing.T) {
	gapAt, failed := found("r", "a.txt", "F", pluginv1.Severity_SEVERITY_LOW), false
	spec := shellSpec(t)
	spec.Gaps = []Gap{{Detector: "detector.x", Workspace: "w", Rule: "r", Path: "a.txt", Symbol: "F", Severity: pluginv1.Severity_SEVERITY_LOW}}
	v := &Verifier{Detectors: fakeDetectors(func(patched bool, _ []string) ([]*pluginv1.ScanResponse, error) {
		switch {
		case !patched:
			return answers([]string{"a.txt"}, gapAt), nil
		case !failed:
			failed = true
			return nil, errors.New("it crashed")
		}
		return answers([]string{"a.txt", "b/c.txt"}), nil
	})}
	if verdict, err := v.Verify(t.Context(), spec); err != nil || !verdict.Passed || !failed {
		t.Errorf("%+v, %v", verdict, err)
	}
}
