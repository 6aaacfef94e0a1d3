package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type patchApproveOptions struct {
	*app
	change
	request apiv1.ApprovePatchRequest
}

func (a *app) newPatchApproveCommand() *cobra.Command {
	o := &patchApproveOptions{app: a}
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Consent to a patch that has passed verification",
		Long: `Consent to a patch that has passed verification. It is integrated when as many have consented as its rule asks for; who
has proposed it cannot. With --hash only that content is approved; without it, the one that the patch has now. ` + patchID,
		Example:     "  sop patch approve 0199f3c2\n  sop patch approve 0199f3c2 --hash 9f86d081884c7d65… --reason \"looks right\"",
		Args:        patchArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.request.Hash, "hash", "", "the `hash` of the content that was looked at, as `sop patch show` tells it")
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *patchApproveOptions) run(ctx context.Context) error {
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	if o.request.Hash == "" {
		answer, err := c.patch().GetPatch(ctx, connect.NewRequest(&apiv1.GetPatchRequest{Id: o.request.GetId()}))
		if err != nil {
			return err
		}
		o.request.Id, o.request.Hash = answer.Msg.GetPatch().GetId(), answer.Msg.GetPatch().GetHash()
	}
	answer, err := c.patch().ApprovePatch(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the patch could be approved")
	}
	p := answer.Msg.GetPatch()
	if o.json() {
		return printJSON(o.Out, map[string]wire{"patch": {p}})
	}
	if p.GetState() == "verified" {
		o.say("consented to %s: %d of %d\n", term.Safe(p.GetId()), len(p.GetApprovals()), p.GetApprovalsNeeded())
		return nil
	}
	o.say("%s %s: %s\n", term.Safe(p.GetState()), term.Safe(p.GetId()), term.Safe(p.GetTitle()))
	return nil
}
