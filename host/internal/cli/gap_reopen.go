package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

type gapReopenOptions struct {
	*app
	change
	id, reason string
}

func (a *app) newGapReopenCommand() *cobra.Command {
	o := &gapReopenOptions{app: a}
	cmd := &cobra.Command{
		Use:         "reopen ID",
		Short:       "Take a suppressed, acknowledged or resolved gap back to open",
		Example:     "  sop gap reopen 0199f3c2 --reason \"no longer generated\"",
		Args:        arguments(1, 1, "the ID of a gap"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *gapReopenOptions) run(ctx context.Context) error {
	return o.decide(ctx, o.check, "reopened", func(ctx context.Context, c apiv1connect.GapClient) (gapAnswer, error) {
		return message(c.ReopenGap(ctx, connect.NewRequest(&apiv1.ReopenGapRequest{Id: o.id, Reason: o.reason, ValidateOnly: o.check, IdempotencyKey: o.key})))
	})
}
