package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type gapShowOptions struct {
	*app
	id string
}

func (a *app) newGapShowCommand() *cobra.Command {
	o := &gapShowOptions{app: a}
	return &cobra.Command{
		Use:         "show ID",
		Short:       "Show one gap with its history",
		Long:        "Show one gap with its evidence and history. ID is its id, an unambiguous beginning of it, or its fingerprint.",
		Example:     "  sop gap show 0199f3c2\n  sop gap show 0199f3c2 -o json",
		Args:        arguments(1, 1, "the ID of a gap"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
}

func (o *gapShowOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.gap().GetGap(ctx, connect.NewRequest(&apiv1.GetGapRequest{Id: o.id}))
	if err != nil {
		return err
	}
	return o.printGap(answer.Msg.GetGap())
}
