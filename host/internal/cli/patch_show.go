package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type patchShowOptions struct {
	*app
	id       string
	diffOnly bool
	noDiff   bool
}

func (a *app) newPatchShowCommand() *cobra.Command {
	o := &patchShowOptions{app: a}
	cmd := &cobra.Command{
		Use:         "show ID",
		Short:       "Show one patch: changes, evidence, risks, history",
		Long:        "Show one patch: its changes as a diff, the evidence of the run that made it, the verdict, and what somebody should\nlook at twice. " + patchID,
		Example:     "  sop patch show 0199f3c2\n  sop patch show 0199f3c2 --diff > fix.diff",
		Args:        patchArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&o.diffOnly, "diff", false, "the diff and nothing else")
	cmd.Flags().BoolVar(&o.noDiff, "no-diff", false, "everything but the diff")
	return cmd
}

func (o *patchShowOptions) run(ctx context.Context) error {
	if o.diffOnly && o.noDiff {
		return usagef("--diff and --no-diff leave nothing")
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.patch().GetPatch(ctx, connect.NewRequest(&apiv1.GetPatchRequest{Id: o.id, Diff: !o.noDiff}))
	if err != nil {
		return err
	}
	p, diff := answer.Msg.GetPatch(), answer.Msg.GetDiff()
	switch {
	case o.json():
		return printJSON(o.Out, struct {
			Patch wire   `json:"patch"`
			Diff  string `json:"diff,omitempty"`
		}{wire{p}, diff})
	case o.diffOnly:
		o.printDiff(diff)
	default:
		o.printPatch(p, diff)
	}
	return nil
}
