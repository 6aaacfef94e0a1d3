package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type pluginRestartOptions struct {
	*app
	change
	id string
}

func (a *app) newPluginRestartCommand() *cobra.Command {
	o := &pluginRestartOptions{app: a}
	cmd := &cobra.Command{
		Use:   "restart KIND.NAME",
		Short: "Put a new process of a plugin in service",
		Long: `Put a new process of a plugin in service, then end the old one after its calls. A plugin that failed for good is tried
again this way.`,
		Example:     "  sop plugin restart detector.docs",
		Args:        arguments(1, 1, "the KIND.NAME of a plugin"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
	o.addChange(cmd)
	return cmd
}

func (o *pluginRestartOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.plugin().RestartPlugin(ctx, connect.NewRequest(&apiv1.RestartPluginRequest{Id: o.id, ValidateOnly: o.check, IdempotencyKey: o.key}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the plugin would be restarted")
	}
	p := answer.Msg.GetPlugin()
	if o.json() {
		return printJSON(o.Out, map[string]wire{"plugin": {p}})
	}
	o.say("%s is %s: generation %d, pid %s\n", term.Safe(p.GetId()), term.Safe(p.GetState()), p.GetGeneration(), pidOf(p))
	return nil
}
