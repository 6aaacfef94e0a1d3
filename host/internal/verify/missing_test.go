package verify

import (
	"slices"
	"testing"
)

func TestMissing(t *testing.T) {
	verdict := &Verdict{Passed: true, Steps: []StepVerdict{
		{Name: StepProtected, Runner: StepProtected, Passed: true},
		{Name: "build", Runner: RunnerCommand, Passed: true, Runs: []Run{{Argv: []string{"go", "build", "./..."}}}},
		{Name: "test", Runner: RunnerGoTest, Passed: true, Runs: []Run{{Argv: []string{"go", "test", "-c"}}}},
		{Name: "lint", Runner: RunnerCommand, Runs: []Run{{Argv: []string{"lint"}}}},
	}}
	build, test := Step{Name: "build", Command: []string{"go", "build", "./..."}}, Step{Name: "test", Runner: RunnerGoTest}
	for name, c := range map[string]struct {
		steps []Step
		want  []string
	}{
		"the same":        {[]Step{build, test}, nil},
		"fewer":           {[]Step{test}, nil},
		"one more":        {[]Step{build, test, {Name: "vet", Command: []string{"go", "vet"}}}, []string{"vet"}},
		"another command": {[]Step{{Name: "build", Command: []string{"make"}}}, []string{"build"}},
		"another runner":  {[]Step{{Name: "build", Runner: RunnerGoTest}}, []string{"build"}},
		"one that failed": {[]Step{{Name: "lint", Command: []string{"lint"}}}, []string{"lint"}},
		"none":            {nil, nil},
	} {
		if got := verdict.Missing(c.steps); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
