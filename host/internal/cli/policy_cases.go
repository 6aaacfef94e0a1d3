//go:build !front

package cli

import (
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
)

type policyTestOptions struct {
	*app
	dir   string
	quiet bool
}

func (a *app) newPolicyTestCommand() *cobra.Command {
	o := &policyTestOptions{app: a}
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Ask policies what test cases expect of them",
		Long: `Ask the policies of --dir, or those that the configuration names, what the cases in the files ask, and compare the
answers. No host is needed. A file holds cases such as

  case "nobody approves their own patch" {
    principal = { name = "bot", trust = "system", groups = ["leads"] }
    action    = "patch.approve"
    resource  = { entity = "Patch::p1", proposer = "bot", verified = true, approved = false, approvals = 0, risks = [] }
    context   = {}
    expect    = "deny"            # or "allow"
    policy    = "patch-not-own"   # that must be among those that decided; may be left out
  }

A principal that is only a name is an exterior agent; without a resource it is the host as a whole.`,
		Example: "  sop policy test policies/*.cases\n  sop policy test --dir ./policies policy.cases -o json",
		Args:    arguments(1, 1000, "FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return o.run(args) },
	}
	cmd.Flags().StringVar(&o.dir, "dir", "", "test the policies of this `directory`")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "say only what fails")
	return cmd
}

func (o *policyTestOptions) run(files []string) error {
	results, diagnostics := o.engine.TestPolicies(o.policySource(o.dir), files)
	if diagnostics.HasErrors() {
		return o.refused(diagnostics)
	}
	failed := 0
	for _, r := range results {
		if r.Failure != "" {
			failed++
		}
	}
	if o.json() {
		err := printJSON(o.Out, struct {
			Passed int                  `json:"passed"`
			Failed int                  `json:"failed"`
			Cases  []startup.PolicyTest `json:"cases"`
		}{len(results) - failed, failed, results})
		if err != nil {
			return err
		}
	} else {
		if err := o.printDiagnostics(diagnostics); err != nil {
			return err
		}
		o.print(results)
		o.say("%d passed, %d failed\n", len(results)-failed, failed)
	}
	if failed > 0 {
		return exitError(exitFailed)
	}
	return nil
}

func (o *policyTestOptions) print(results []startup.PolicyTest) {
	palette := o.palette(o.OutTerminal)
	for _, r := range results {
		switch {
		case r.Failure != "":
			o.say("%s  %s\n      %s: %s\n", palette.Paint(term.BoldRed, "FAIL"), term.Safe(r.Name), term.Safe(place(r.File, int32(r.Line))), term.Safe(r.Failure))
		case !o.quiet:
			o.say("%s  %s\n", palette.Paint(term.Green, "pass"), term.Safe(r.Name))
		}
	}
}
