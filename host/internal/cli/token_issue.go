package cli

import (
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type tokenIssueOptions struct {
	*app
	tokenSpecFlags
	change
}

func (a *app) newTokenIssueCommand() *cobra.Command {
	o := &tokenIssueOptions{app: a}
	cmd := &cobra.Command{
		Use:   "issue --type TYPE --operation NAME",
		Short: "Issue a token and show its secret, once",
		Long: `Issue a token. Its secret goes to standard output, once; everything else to standard error.
It is bound to its operations and to the agent that may use it, and to whatever else is given.`,
		Example: `  sop token issue --type operation --operation gap.suppress > token
  sop token issue --type todo --operation patch.propose --task 0199f3c2 --path docs --requester agent-7
  sop token issue --type test --operation '*' --ttl 5m --uses 3 -o json`,
		Args:        withoutSecrets(noArguments),
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.spec.Type, "type", "", "`type`; required: "+strings.Join(tokenTypes, ", "))
	o.add(flags)
	o.addChange(cmd)
	a.completeWords(cmd, "type", tokenTypes...)
	return cmd
}

func (o *tokenIssueOptions) run(ctx context.Context) error {
	if o.spec.Type == "" {
		return usagef("--type is missing").WithRemedy("use %s", orList(tokenTypes))
	}
	if err := oneOf("type", o.spec.Type, tokenTypes); err != nil {
		return err
	}
	if len(o.spec.Operations) == 0 {
		return usagef("--operation is missing").WithRemedy("name what the token permits; '*' is any")
	}
	spec, err := o.read(o.now())
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.token().IssueToken(ctx, connect.NewRequest(&apiv1.IssueTokenRequest{Spec: spec, ValidateOnly: o.check, IdempotencyKey: o.key}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the token would be issued")
	}
	return o.printSecret(answer.Msg.GetSecret(), answer.Msg.GetToken())
}
