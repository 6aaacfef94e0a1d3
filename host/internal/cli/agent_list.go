package cli

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type agentListOptions struct {
	*app
	filter apiv1.ListAgentsRequest
}

func (a *app) newAgentListCommand() *cobra.Command {
	o := &agentListOptions{app: a}
	cmd := &cobra.Command{
		Use:         "list",
		Aliases:     []string{"ls"},
		Short:       "List enrolled agents, by name",
		Long:        "List enrolled agents, by name unless told otherwise. Those that only the configuration maps are not among them.",
		Example:     "  sop agent list --state active\n  sop agent list --group builders -o json",
		Args:        withoutSecrets(noArguments),
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.filter.States, "state", nil, "only in these `states`: "+strings.Join(agentStates, ", "))
	flags.StringVar(&o.filter.Trust, "trust", "", "only of this `trust`: "+strings.Join(agentTrusts, ", "))
	flags.StringVar(&o.filter.Group, "group", "", "only of this `group`")
	addNarrowing(cmd, &o.filter.Filter, &o.filter.OrderBy, "groups : builders", "last_used desc")
	a.completeWords(cmd, "state", agentStates...)
	a.completeWords(cmd, "trust", agentTrusts...)
	return cmd
}

func (o *agentListOptions) run(ctx context.Context) error {
	for _, s := range o.filter.States {
		if err := oneOf("state", s, agentStates); err != nil {
			return err
		}
	}
	if o.filter.Trust != "" {
		if err := oneOf("trust", o.filter.Trust, agentTrusts); err != nil {
			return err
		}
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	agents, err := listAgents(ctx, c, &o.filter)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"agents": wires(agents)})
	}
	if len(agents) == 0 {
		o.say("no agents\n")
		return nil
	}
	table := o.table(3, "NAME", "TRUST", "STATE", "GROUPS", "EXPIRES", "LAST USED")
	table.Whole = []int{0}
	for _, r := range agents {
		table.Row(term.Text(r.GetName()), term.Text(r.GetTrust()), term.Styled(agentStyle(r.GetState()), r.GetState()),
			term.Text(strings.Join(r.GetGroups(), ", ")), term.Text(expiryOf(r)), term.Text(lastUse(o.app, r)))
	}
	_, err = table.WriteTo(o.Out)
	return err
}

// listAgents asks page by page.
func listAgents(ctx context.Context, c *client, filter *apiv1.ListAgentsRequest) ([]*apiv1.AgentRecord, error) {
	filter.PageSize = largestPage
	return everyPage(func(token string) ([]*apiv1.AgentRecord, string, error) {
		filter.PageToken = token
		answer, err := c.agent().ListAgents(ctx, connect.NewRequest(filter))
		if err != nil {
			return nil, "", err
		}
		return answer.Msg.GetAgents(), answer.Msg.GetNextPageToken(), nil
	})
}
