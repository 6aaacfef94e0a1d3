package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type pluginShowOptions struct {
	*app
	id string
}

func (a *app) newPluginShowCommand() *cobra.Command {
	o := &pluginShowOptions{app: a}
	return &cobra.Command{
		Use:         "show KIND.NAME",
		Short:       "Show one plugin",
		Example:     "  sop plugin show detector.docs",
		Args:        arguments(1, 1, "the KIND.NAME of a plugin"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
}

func (o *pluginShowOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.plugin().GetPlugin(ctx, connect.NewRequest(&apiv1.GetPluginRequest{Id: o.id}))
	if err != nil {
		return err
	}
	return o.printPlugin(answer.Msg.GetPlugin())
}
