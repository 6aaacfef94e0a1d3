//go:build !front

package cli

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type policyListOptions struct {
	*app
	dir    string
	text   bool
	narrow apiv1.ListPoliciesRequest
}

func (a *app) newPolicyListCommand() *cobra.Command {
	o := &policyListOptions{app: a}
	cmd := &cobra.Command{
		Use:         "list",
		Aliases:     []string{"ls"},
		Short:       "List the policies in force",
		Long:        "List the policies that are in force in the host, or those of --dir.",
		Example:     "  sop policy list\n  sop policy list --text\n  sop policy list --dir ./policies -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&o.dir, "dir", "", "list the policies of this `directory`, and ask no host")
	cmd.Flags().BoolVar(&o.text, "text", false, "print them as they are written")
	addNarrowing(cmd, &o.narrow.Filter, &o.narrow.OrderBy, "effect = forbid", "id")
	cmd.MarkFlagsMutuallyExclusive("dir", "filter")
	cmd.MarkFlagsMutuallyExclusive("dir", "order-by")
	return cmd
}

func (o *policyListOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	list, err := o.list(ctx)
	if err != nil {
		return err
	}
	switch {
	case o.json():
		return printJSON(o.Out, wire{list})
	case o.text:
		for _, p := range list.GetPolicies() {
			o.say("// %s\n%s\n\n", term.Safe(place(p.GetFile(), p.GetLine())), term.SafeLines(p.GetText()))
		}
		return nil
	}
	table := o.table(0, "ID", "EFFECT", "WHERE")
	for _, p := range list.GetPolicies() {
		style := term.Green
		if p.GetEffect() == "forbid" {
			style = term.Red
		}
		table.Row(term.Text(p.GetId()), term.Styled(style, p.GetEffect()), term.Text(place(p.GetFile(), p.GetLine())))
	}
	if _, err := table.WriteTo(o.Out); err != nil {
		return err
	}
	o.say("%s from %s\n", count(int64(len(list.GetPolicies())), "policy", "policies"), term.Safe(strings.TrimSpace(list.GetSource())))
	return nil
}

func (o *policyListOptions) list(ctx context.Context) (*apiv1.ListPoliciesResponse, error) {
	if o.dir != "" {
		list, diagnostics := o.engine.Policies(o.policySource(o.dir))
		if diagnostics.HasErrors() {
			return nil, o.refused(diagnostics)
		}
		return list, nil
	}
	c := o.connect()
	defer c.Close()
	list := &apiv1.ListPoliciesResponse{}
	o.narrow.PageSize = largestPage
	policies, err := everyPage(func(token string) ([]*apiv1.PolicyRecord, string, error) {
		o.narrow.PageToken = token
		answer, err := c.policy().ListPolicies(ctx, connect.NewRequest(&o.narrow))
		if err != nil {
			return nil, "", err
		}
		list = answer.Msg
		return list.GetPolicies(), list.GetNextPageToken(), nil
	})
	list.Policies = policies
	return list, err
}
