package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type tokenChildOptions struct {
	*app
	tokenSpecFlags
	change
	holder string
}

func (a *app) newTokenChildCommand() *cobra.Command {
	o := &tokenChildOptions{app: a}
	cmd := &cobra.Command{
		Use:   "child [FILE]",
		Short: "Hand a part of a token on and show the child's secret, once",
		Long: `Issue a token that permits a part of what another one does. The parent's secret is read from FILE, or from
standard input. What is not given is the parent's; a child has one use unless told otherwise, and its uses are
taken from the parent for good. Revoking the parent revokes the child.`,
		Example:     "  sop token child token --path docs/api --uses 5 --requester agent-8 > child",
		Args:        secretArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	o.add(cmd.Flags())
	o.addChange(cmd)
	cmd.Flags().StringVar(&o.holder, "holder", "", "on behalf of the `agent` that holds the parent")
	return cmd
}

func (o *tokenChildOptions) run(ctx context.Context, args []string) error {
	spec, err := o.read(o.now())
	if err != nil {
		return err
	}
	secret, err := o.readSecret(args)
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.token().IssueChildToken(ctx, connect.NewRequest(&apiv1.IssueChildTokenRequest{
		Secret: secret, Spec: spec, Holder: o.holder, ValidateOnly: o.check, IdempotencyKey: o.key,
	}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the child would be issued")
	}
	return o.printSecret(answer.Msg.GetSecret(), answer.Msg.GetToken())
}
