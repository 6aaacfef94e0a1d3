//go:build !front

package cli

import (
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/config"
)

type policyValidateOptions struct{ *app }

func (a *app) newPolicyValidateCommand() *cobra.Command {
	o := policyValidateOptions{a}
	return &cobra.Command{
		Use:   "validate [DIR]",
		Short: "Check policies against the schema",
		Long: `Check the policies of a directory, or those that the configuration names, and show every problem at once, with file,
line and caret. No host is needed, and none is changed.`,
		Example: "  sop policy validate\n  sop policy validate ./policies -o json",
		Args:    arguments(0, 1, "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := ""
			if len(args) > 0 {
				dir = args[0]
			}
			return o.run(dir)
		},
	}
}

func (o policyValidateOptions) run(dir string) error {
	list, diagnostics := o.engine.Policies(o.policySource(dir))
	valid := !diagnostics.HasErrors()
	if o.json() {
		err := printJSON(o.Out, struct {
			Valid       bool               `json:"valid"`
			Source      string             `json:"source"`
			Policies    int                `json:"policies"`
			Diagnostics config.Diagnostics `json:"diagnostics"`
		}{valid, list.GetSource(), len(list.GetPolicies()), diagnostics})
		if err != nil || valid {
			return err
		}
		return exitError(exitFailed)
	}
	if !valid {
		return o.refused(diagnostics)
	}
	if err := o.printDiagnostics(diagnostics); err != nil {
		return err
	}
	o.say("%s: %s, valid\n", list.GetSource(), count(int64(len(list.GetPolicies())), "policy", "policies"))
	return nil
}
