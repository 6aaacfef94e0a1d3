package cli

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type pluginListOptions struct {
	*app
	narrow apiv1.ListPluginsRequest
}

func (a *app) newPluginListCommand() *cobra.Command {
	o := &pluginListOptions{app: a}
	cmd := &cobra.Command{
		Use:         "list",
		Aliases:     []string{"ls"},
		Short:       "List the configured plugins",
		Example:     "  sop plugin list\n  sop plugin list -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	addNarrowing(cmd, &o.narrow.Filter, &o.narrow.OrderBy, "state != ready", "restarts desc")
	return cmd
}

func (o *pluginListOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	plugins, err := listPlugins(ctx, c, &o.narrow)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"plugins": wires(plugins)})
	}
	if len(plugins) == 0 && o.narrow.GetFilter() != "" {
		o.say("no plugin is like that\n")
		return nil
	}
	if len(plugins) == 0 {
		o.say("no plugins are configured\n")
		return nil
	}
	table := o.table(3, "PLUGIN", "STATE", "VERSION", "SUMMARY", "CALLS", "FAILED")
	for _, p := range plugins {
		table.Row(term.Text(p.GetId()), term.Styled(stateStyle(p.GetState()), p.GetState()), term.Text(p.GetVersion()),
			term.Text(p.GetSummary()), term.Text(fmt.Sprint(p.GetCalls())), term.Text(fmt.Sprint(p.GetFailures())))
	}
	_, err = table.WriteTo(o.Out)
	return err
}

// listPlugins asks page by page for all.
func listPlugins(ctx context.Context, c *client, req *apiv1.ListPluginsRequest) ([]*apiv1.PluginStatus, error) {
	req.PageSize = largestPage
	return everyPage(func(token string) ([]*apiv1.PluginStatus, string, error) {
		req.PageToken = token
		answer, err := c.plugin().ListPlugins(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, "", err
		}
		return answer.Msg.GetPlugins(), answer.Msg.GetNextPageToken(), nil
	})
}
