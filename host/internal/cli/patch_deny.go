package cli

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type patchDenyOptions struct {
	*app
	change
	request apiv1.DenyPatchRequest
}

func (a *app) newPatchDenyCommand() *cobra.Command {
	o := &patchDenyOptions{app: a}
	cmd := &cobra.Command{
		Use:         "deny ID --reason TEXT",
		Short:       "End a patch that is not to be integrated, for a reason",
		Long:        "End a patch that is not to be integrated. The reason goes to whoever tries again. " + patchID,
		Example:     "  sop patch deny 0199f3c2 --reason \"the example is wrong\"",
		Args:        patchArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "why, in `words`; required")
	o.addChange(cmd)
	return cmd
}

func (o *patchDenyOptions) run(ctx context.Context) error {
	if strings.TrimSpace(o.request.GetReason()) == "" {
		return usagef("--reason is missing").WithRemedy("say why, for whoever tries again")
	}
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.patch().DenyPatch(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the patch would be denied")
	}
	p := answer.Msg.GetPatch()
	if o.json() {
		return printJSON(o.Out, map[string]wire{"patch": {p}})
	}
	o.say("denied %s: %s\n", term.Safe(p.GetId()), term.Safe(p.GetTitle()))
	return nil
}
