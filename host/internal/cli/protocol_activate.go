package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type protocolActivateOptions struct {
	*app
	change
	request apiv1.ActivateProtocolRequest
}

func (a *app) newProtocolActivateCommand() *cobra.Command {
	o := &protocolActivateOptions{app: a}
	cmd := &cobra.Command{
		Use:   "activate NAME",
		Short: "Take a protocol into service",
		Long: `Take a protocol into service, after those that it depends on. Where it declares a self-test, that is made first and
has to pass.`,
		Example:     "  sop protocol activate arp\n  sop protocol activate arp --mode passive",
		Args:        arguments(1, 1, "NAME"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Name = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.request.Mode, "mode", "", "the `mode` to be in, active or passive (default: as it is configured)")
	o.addChange(cmd)
	a.completeWords(cmd, "mode", protocolModes...)
	return cmd
}

func (o *protocolActivateOptions) run(ctx context.Context) error {
	if o.request.Mode != "" {
		if err := oneOf("mode", o.request.Mode, protocolModes); err != nil {
			return err
		}
	}
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.protocol().ActivateProtocol(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the protocol would be taken into service")
	}
	return o.printProtocol(answer.Msg.GetProtocol())
}

type protocolDeactivateOptions struct {
	*app
	change
	request apiv1.DeactivateProtocolRequest
}

func (a *app) newProtocolDeactivateCommand() *cobra.Command {
	o := &protocolDeactivateOptions{app: a}
	cmd := &cobra.Command{
		Use:   "deactivate NAME",
		Short: "Take a protocol out of service after its calls",
		Long: `Take a protocol out of service after its calls have ended. It stays out, whoever calls it, until it is activated
again. One that others depend on is not taken out.`,
		Example:     "  sop protocol deactivate uip --reason 'release 2.4'",
		Args:        arguments(1, 1, "NAME"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Name = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *protocolDeactivateOptions) run(ctx context.Context) error {
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.protocol().DeactivateProtocol(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the protocol would be taken out of service")
	}
	return o.printProtocol(answer.Msg.GetProtocol())
}
