package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type tokenConsumeOptions struct {
	*app
	tokenUseFlags
	change
}

func (a *app) newTokenConsumeCommand() *cobra.Command {
	o := &tokenConsumeOptions{app: a}
	cmd := &cobra.Command{
		Use:   "consume [FILE] --operation NAME",
		Short: "Take one use of a token",
		Long: `Take one use of a token that permits what the flags name; all that it is bound to must be named. The secret is
read from FILE, or from standard input. Exit code 4 says that it was refused, which costs no use.`,
		Example:     "  sop token consume token --operation gap.suppress\n  sop token consume --operation patch.propose --path docs/a.md --idempotency-key 7f3a < token",
		Args:        secretArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	o.add(cmd.Flags())
	o.addChange(cmd)
	return cmd
}

func (o *tokenConsumeOptions) run(ctx context.Context, args []string) error {
	if o.use.Operation == "" {
		return usagef("--operation is missing").WithRemedy("name what the token is used for")
	}
	secret, err := o.readSecret(args)
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.token().ConsumeToken(ctx, connect.NewRequest(&apiv1.ConsumeTokenRequest{
		Secret: secret, Use: &o.use, ValidateOnly: o.check, IdempotencyKey: o.key,
	}))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("a use would be taken")
	}
	use := answer.Msg
	if o.json() {
		return printJSON(o.Out, map[string]wire{"use": {use}})
	}
	o.say("used token %s, %s left, %s\n", term.Safe(use.GetAccessor()), count(use.GetRemaining(), "use", "uses"), term.Safe(use.GetState()))
	return nil
}
