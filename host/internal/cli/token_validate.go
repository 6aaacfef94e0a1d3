package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type tokenValidateOptions struct {
	*app
	tokenUseFlags
}

func (a *app) newTokenValidateCommand() *cobra.Command {
	o := &tokenValidateOptions{app: a}
	cmd := &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Say whether a token permits something; costs no use",
		Long: `Say whether a token lives and permits what the flags name; what they do not name is not checked. The secret is
read from FILE, or from standard input. Exit code 4 says that it does not.`,
		Example:     "  sop token validate token --operation gap.suppress\n  sop token validate < token",
		Args:        secretArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	o.add(cmd.Flags())
	return cmd
}

func (o *tokenValidateOptions) run(ctx context.Context, args []string) error {
	secret, err := o.readSecret(args)
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.token().ValidateToken(ctx, connect.NewRequest(&apiv1.ValidateTokenRequest{Secret: secret, Use: &o.use}))
	if err != nil {
		return err
	}
	return o.printToken(answer.Msg.GetToken())
}
