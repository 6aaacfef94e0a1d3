package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func (a *app) newAgentShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "show NAME",
		Short:       "Show an enrolled agent and its keys' accessors",
		Example:     "  sop agent show agent-7",
		Args:        agentArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, args []string) error { return a.showAgent(cmd.Context(), args[0]) },
	}
}

func (a *app) showAgent(ctx context.Context, name string) error {
	ctx, cancel := a.bounded(ctx, queryTimeout)
	defer cancel()
	c := a.connect()
	defer c.Close()
	answer, err := c.agent().GetAgent(ctx, connect.NewRequest(&apiv1.GetAgentRequest{Name: name}))
	if err != nil {
		return err
	}
	return a.printAgent(answer.Msg.GetAgent())
}
