package verify

import "slices"

// Missing names those of the steps that the verdict does not have as passed, in the
// form that they have now: for another command, or by another runner, is another
// step.
func (v *Verdict) Missing(steps []Step) (names []string) {
	for i := range steps {
		if !slices.ContainsFunc(v.Steps, steps[i].passedAs) {
			names = append(names, steps[i].Name)
		}
	}
	return names
}

// passedAs says whether a step of a verdict is this one, and has passed.
func (s *Step) passedAs(was StepVerdict) bool {
	runner := s.Runner
	if runner == "" {
		runner = RunnerCommand
	}
	if was.Name != s.Name || was.Runner != runner || !was.Passed {
		return false
	}
	if runner != RunnerCommand {
		return true
	}
	return slices.ContainsFunc(was.Runs, func(r Run) bool { return slices.Equal(r.Argv, s.Command) })
}
