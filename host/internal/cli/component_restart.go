package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type componentRestartOptions struct {
	*app
	change
	name string
}

func (a *app) newComponentRestartCommand() *cobra.Command {
	o := &componentRestartOptions{app: a}
	cmd := &cobra.Command{
		Use:         "restart NAME",
		Short:       "Stop a component and start it again",
		Long:        `Stop the process of a component, start another, and wait until that is ready.`,
		Example:     "  sop component restart arp",
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

func (o *componentRestartOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.component().RestartComponent(ctx, connect.NewRequest(&apiv1.RestartComponentRequest{Name: o.name, ValidateOnly: o.check, IdempotencyKey: o.key}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the component would be restarted")
	}
	return o.componentChanged(answer.Msg.GetComponent())
}
