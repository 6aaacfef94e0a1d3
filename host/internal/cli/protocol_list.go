package cli

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk/fault"
)

type protocolListOptions struct {
	*app
	narrow apiv1.ListProtocolsRequest
}

func (a *app) newProtocolListCommand() *cobra.Command {
	o := &protocolListOptions{app: a}
	cmd := &cobra.Command{
		Use:         "list",
		Aliases:     []string{"ls"},
		Short:       "List the protocols and how they stand",
		Example:     "  sop protocol list\n  sop protocol list --filter 'state = failed' -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	addNarrowing(cmd, &o.narrow.Filter, &o.narrow.OrderBy, "state != active", "calls desc")
	return cmd
}

func (o *protocolListOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	protocols, err := listProtocols(ctx, c, &o.narrow)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"protocols": wires(protocols)})
	}
	if len(protocols) == 0 {
		o.say("no protocols are configured\n")
		return nil
	}
	table := o.table(6, "PROTOCOL", "STATE", "ACTIVATION", "CALLS", "FAILED", "IN FLIGHT", "DETAIL")
	for _, p := range protocols {
		table.Row(term.Text(p.GetName()), term.Styled(protocolStyle(p.GetState()), p.GetState()), term.Text(p.GetActivation()),
			term.Text(fmt.Sprint(p.GetCalls())), term.Text(fmt.Sprint(p.GetFailures())), term.Text(fmt.Sprint(p.GetInFlight())),
			term.Text(firstOf(p.GetError(), p.GetDetail())))
	}
	_, err = table.WriteTo(o.Out)
	return err
}

// firstOf returns the first text that is not empty.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// listProtocols asks page by page for all.
func listProtocols(ctx context.Context, c *client, req *apiv1.ListProtocolsRequest) ([]*apiv1.ProtocolStatus, error) {
	req.PageSize = largestPage
	return everyPage(func(token string) ([]*apiv1.ProtocolStatus, string, error) {
		req.PageToken = token
		answer, err := c.protocol().ListProtocols(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, "", err
		}
		return answer.Msg.GetProtocols(), answer.Msg.GetNextPageToken(), nil
	})
}

type protocolShowOptions struct {
	*app
	name string
}

func (a *app) newProtocolShowCommand() *cobra.Command {
	o := &protocolShowOptions{app: a}
	return &cobra.Command{
		Use:         "show NAME",
		Short:       "Show one protocol with all there is to know",
		Example:     "  sop protocol show arp",
		Args:        arguments(1, 1, "NAME"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return o.run(cmd.Context())
		},
	}
}

func (o *protocolShowOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	protocols, err := listProtocols(ctx, c, &apiv1.ListProtocolsRequest{})
	if err != nil {
		return err
	}
	for _, p := range protocols {
		if p.GetName() == o.name {
			return o.printProtocol(p)
		}
	}
	return fault.Errorf(codes.NotFound, "PROTOCOL_UNKNOWN", "there is no protocol %q", o.name).WithRemedy("`sop protocol list` names the configured ones")
}
