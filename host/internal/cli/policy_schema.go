//go:build !front

package cli

import "github.com/spf13/cobra"

type policySchemaOptions struct{ *app }

func (a *app) newPolicySchemaCommand() *cobra.Command {
	o := policySchemaOptions{a}
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print what policies can speak of",
		Long:    "Print the schema of agents, actions and resources that policies are checked against, in Cedar's own form. No host is needed.",
		Example: "  sop policy schema > policy.cedarschema",
		Args:    noArguments,
		RunE:    func(*cobra.Command, []string) error { return o.run() },
	}
}

func (o policySchemaOptions) run() error {
	if o.json() {
		return printJSON(o.Out, map[string]string{"schema": o.engine.PolicySchema()})
	}
	o.say("%s", o.engine.PolicySchema())
	return nil
}
