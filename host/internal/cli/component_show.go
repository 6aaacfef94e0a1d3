package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type componentShowOptions struct {
	*app
	name string
}

func (a *app) newComponentShowCommand() *cobra.Command {
	o := &componentShowOptions{app: a}
	return &cobra.Command{
		Use:         "show NAME",
		Short:       "Show one component",
		Example:     "  sop component show arp",
		Args:        arguments(1, 1, "the NAME of a component"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return o.run(cmd.Context())
		},
	}
}

func (o *componentShowOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.component().GetComponent(ctx, connect.NewRequest(&apiv1.GetComponentRequest{Name: o.name}))
	if err != nil {
		return err
	}
	return o.printComponent(answer.Msg.GetComponent())
}
