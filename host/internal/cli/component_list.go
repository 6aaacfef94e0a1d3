package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type componentListOptions struct {
	*app
	narrow apiv1.ListComponentsRequest
}

func (a *app) newComponentListCommand() *cobra.Command {
	o := &componentListOptions{app: a}
	cmd := &cobra.Command{
		Use:         "list",
		Aliases:     []string{"ls"},
		Short:       "List the configured components",
		Example:     "  sop component list\n  sop component list --filter 'state != ready'",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	addNarrowing(cmd, &o.narrow.Filter, &o.narrow.OrderBy, "state != ready", "restarts desc")
	return cmd
}

func (o *componentListOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.narrow.PageSize = largestPage
	all, err := everyPage(func(token string) ([]*apiv1.ComponentStatus, string, error) {
		o.narrow.PageToken = token
		answer, err := c.component().ListComponents(ctx, connect.NewRequest(&o.narrow))
		if err != nil {
			return nil, "", err
		}
		return answer.Msg.GetComponents(), answer.Msg.GetNextPageToken(), nil
	})
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"components": wires(all)})
	}
	if len(all) == 0 {
		o.say("no components are configured\n")
		return nil
	}
	_, err = o.componentTable(all).WriteTo(o.Out)
	return err
}
