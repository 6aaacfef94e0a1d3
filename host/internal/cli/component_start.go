package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type componentStartOptions struct {
	*app
	change
	name string
}

func (a *app) newComponentStartCommand() *cobra.Command {
	o := &componentStartOptions{app: a}
	cmd := &cobra.Command{
		Use:         "start NAME",
		Short:       "Start a component that is not running",
		Long:        `Start a component that was stopped, has failed, has ended or is idle, with a clean record, and wait until it is ready.`,
		Example:     "  sop component start arp",
		Args:        arguments(1, 1, "the NAME of a component"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return o.run(cmd.Context())
		},
	}
	o.addChange(cmd)
	return cmd
}

func (o *componentStartOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.component().StartComponent(ctx, connect.NewRequest(&apiv1.StartComponentRequest{Name: o.name, ValidateOnly: o.check, IdempotencyKey: o.key}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the component would be started")
	}
	return o.componentChanged(answer.Msg.GetComponent())
}
