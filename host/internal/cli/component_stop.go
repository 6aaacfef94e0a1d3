package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type componentStopOptions struct {
	*app
	change
	name       string
	dependants bool
}

func (a *app) newComponentStopCommand() *cobra.Command {
	o := &componentStopOptions{app: a}
	cmd := &cobra.Command{
		Use:   "stop NAME",
		Short: "Stop a component until it is started again",
		Long: `Stop a component: by its signal, and after its grace by killing it and all that it has started. It stays down until it is
started again, or the host is. A component that others depend on is stopped only with them.`,
		Example:     "  sop component stop arp --dependants",
		Args:        arguments(1, 1, "the NAME of a component"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return o.run(cmd.Context())
		},
	}
	o.addChange(cmd)
	cmd.Flags().BoolVar(&o.dependants, "dependants", false, "stop those that depend on it too, before it")
	return cmd
}

func (o *componentStopOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.component().StopComponent(ctx, connect.NewRequest(&apiv1.StopComponentRequest{Name: o.name, ValidateOnly: o.check, IdempotencyKey: o.key, Dependants: o.dependants}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the component would be stopped")
	}
	if !o.json() {
		for _, name := range answer.Msg.GetDependants() {
			o.say("%s is stopped, which depends on it\n", term.Safe(name))
		}
	}
	return o.componentChanged(answer.Msg.GetComponent())
}
