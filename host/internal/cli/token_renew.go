package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// tokenArguments checks the argument of commands that name a token.
var tokenArguments = withoutSecrets(arguments(1, 1, "the accessor or id of a token"))

type tokenRenewOptions struct {
	*app
	request apiv1.RenewTokenRequest
	change
	ttl time.Duration
}

func (a *app) newTokenRenewCommand() *cobra.Command {
	o := &tokenRenewOptions{app: a}
	cmd := &cobra.Command{
		Use:         "renew ID",
		Short:       "Let a token live longer",
		Long:        "Let a token live longer, within its greatest life. ID is its accessor, its id, or an unambiguous beginning of the id.",
		Example:     "  sop token renew 4kFz0aYt2QmB91xw --ttl 2h",
		Args:        tokenArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().DurationVar(&o.ttl, "ttl", 0, "new life, a `time` from now (default: what suits the type, as far as it goes)")
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *tokenRenewOptions) run(ctx context.Context) error {
	if o.ttl < 0 {
		return usagef("--ttl must not be negative")
	}
	if o.ttl > 0 {
		o.request.Ttl = durationpb.New(o.ttl)
	}
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.token().RenewToken(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the token would be renewed")
	}
	t := answer.Msg.GetToken()
	if o.json() {
		return printJSON(o.Out, map[string]wire{"token": {t}})
	}
	o.say("renewed token %s until %s\n", term.Safe(t.GetAccessor()), clockTime(t.GetExpiresAt()))
	return nil
}
