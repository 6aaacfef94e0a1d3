package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// States of a host.
const (
	stateDegraded = "degraded"
	stateStarting = "starting"
)

type statusOptions struct {
	*app
	watch bool
}

func (a *app) newStatusCommand() *cobra.Command {
	o := &statusOptions{app: a}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the host and its plugins stand",
		Long: `Say how the host, its plugins and its workspaces stand, how the last reload went and how many gaps are open. Exit 3
when something is degraded.`,
		Example:     "  sop status\n  sop status --watch\n  sop status -o json | jq .plugins",
		Args:        noArguments,
		Annotations: exits("34567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&o.watch, "watch", false, "keep showing it as it changes, until Ctrl-C")
	return cmd
}

func (o *statusOptions) run(ctx context.Context) error {
	c := o.connect()
	defer c.Close()
	if o.watch {
		return o.follow(ctx, c)
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	answer, err := c.host().GetStatus(ctx, connect.NewRequest(&apiv1.GetStatusRequest{}))
	if err != nil {
		return err
	}
	status := answer.Msg.GetStatus()
	if o.json() {
		err = printJSON(o.Out, wire{status})
	} else {
		err = o.printStatus(o.Out, status)
	}
	if err == nil && status.GetState() == stateDegraded {
		return exitError(exitPending)
	}
	return err
}
