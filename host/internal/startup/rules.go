package startup

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/host/internal/verify"
)

// checkRules finds names in rules that nothing has: a language that no file is in,
// a verify step that none of the workspaces it is for has. Such a rule would match
// nothing, or fail every patch.
func checkRules(cfg *config.Config) config.Diagnostics {
	var diags config.Diagnostics
	for i := range cfg.Rules {
		r := &cfg.Rules[i]
		for _, language := range r.Match.Languages {
			if all := task.Languages(); !slices.Contains(all, language) {
				diags = append(diags, cfg.Problem(r.Source, "Unknown language",
					fmt.Sprintf("The rule %q is for %q, and no file is taken to be in that. There is %s.", r.Name, language, strings.Join(all, ", "))))
			}
		}
		if r.Scaffold == "" && len(r.Parameters) > 0 {
			diags = append(diags, cfg.Problem(r.Source, "Parameters of no scaffold",
				fmt.Sprintf("The rule %q gives `parameters`, which are those of one scaffold: name it with `scaffold`.", r.Name)))
		}
		steps, err := stepsFor(cfg, r)
		if err != nil {
			continue // the workspace cannot be read, which checkWorkspaces says
		}
		for _, step := range slices.Concat(r.Verify, r.PostCheck) {
			if !slices.Contains(steps, step) {
				diags = append(diags, cfg.Problem(r.Source, "Unknown verify step",
					fmt.Sprintf("The rule %q asks for %q, and no workspace that it is for has such a verify step. There is %s.", r.Name, step, strings.Join(steps, ", "))))
			}
		}
		if slices.Contains(r.PostCheck, verify.StepGap) {
			diags = append(diags, cfg.Problem(r.Source, "Not a post-check",
				fmt.Sprintf("The rule %q has %q among `post_check`: that the gap is gone is confirmed after every integration, by a scan.", r.Name, verify.StepGap)))
		}
	}
	return diags
}

// stepsFor are the names of the steps of the workspaces that a rule is for.
func stepsFor(cfg *config.Config, r *config.Rule) ([]string, error) {
	names := []string{verify.StepGap}
	for i := range cfg.Workspaces {
		w := &cfg.Workspaces[i]
		if len(r.Match.Workspaces) > 0 && !slices.Contains(r.Match.Workspaces, w.Name) {
			continue
		}
		steps, err := verifySteps(cfg, w)
		if err != nil {
			return nil, err
		}
		for _, s := range steps {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
