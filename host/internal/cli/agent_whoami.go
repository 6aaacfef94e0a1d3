package cli

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func (a *app) newAgentWhoAmICommand() *cobra.Command {
	return &cobra.Command{
		Use:         "whoami",
		Short:       "Say as whom the host knows you",
		Example:     "  sop agent whoami\n  sop agent whoami --address https://host:7433 --ca ca.pem --credential-file agent-7.key",
		Args:        withoutSecrets(noArguments),
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.whoAmI(cmd.Context()) },
	}
}

func (a *app) whoAmI(ctx context.Context) error {
	ctx, cancel := a.bounded(ctx, queryTimeout)
	defer cancel()
	c := a.connect()
	defer c.Close()
	answer, err := c.agent().WhoAmI(ctx, connect.NewRequest(&apiv1.WhoAmIRequest{}))
	if err != nil {
		return err
	}
	me := answer.Msg
	if a.json() {
		return printJSON(a.Out, wire{me})
	}
	a.say("%s, %s agent, by %s from %s\n", term.Safe(me.GetName()), term.Safe(me.GetTrust()), term.Safe(me.GetMethod()), term.Safe(me.GetSource()))
	if len(me.GetGroups()) > 0 {
		a.say("groups: %s\n", term.Safe(strings.Join(me.GetGroups(), ", ")))
	}
	return nil
}
