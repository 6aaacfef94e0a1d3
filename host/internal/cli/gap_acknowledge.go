package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

type gapAcknowledgeOptions struct {
	*app
	change
	id, note string
}

func (a *app) newGapAcknowledgeCommand() *cobra.Command {
	o := &gapAcknowledgeOptions{app: a}
	cmd := &cobra.Command{
		Use:   "acknowledge ID",
		Short: "Say that somebody has seen an open gap",
		Long: `Say that somebody has seen an open gap: its state becomes acknowledged, and it is listed and mended as before.
ID is its id, an unambiguous beginning of it, or its fingerprint.`,
		Example:     "  sop gap acknowledge 0199f3c2 --note \"after the release\"",
		Args:        arguments(1, 1, "the ID of a gap"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.note, "note", "", "what is to be known of it, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *gapAcknowledgeOptions) run(ctx context.Context) error {
	return o.decide(ctx, o.check, "acknowledged", func(ctx context.Context, c apiv1connect.GapClient) (gapAnswer, error) {
		return message(c.AcknowledgeGap(ctx, connect.NewRequest(&apiv1.AcknowledgeGapRequest{Id: o.id, Note: o.note, ValidateOnly: o.check, IdempotencyKey: o.key})))
	})
}
