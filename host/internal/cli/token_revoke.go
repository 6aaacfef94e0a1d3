package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type tokenRevokeOptions struct {
	*app
	request apiv1.RevokeTokenRequest
	change
}

func (a *app) newTokenRevokeCommand() *cobra.Command {
	o := &tokenRevokeOptions{app: a}
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "End a token and all that was issued from it, at once",
		Long: `End a token and all that was issued from it, at once. ID is its accessor, its id, or an unambiguous beginning of
the id; the secret is not needed.`,
		Example:     "  sop token revoke 4kFz0aYt2QmB91xw --reason \"left on a pastebin\"",
		Args:        tokenArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *tokenRevokeOptions) run(ctx context.Context) error {
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.token().RevokeToken(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the token would be revoked")
	}
	t, n := answer.Msg.GetToken(), answer.Msg.GetRevoked()
	if o.json() {
		return printJSON(o.Out, struct {
			Token   wire  `json:"token"`
			Revoked int64 `json:"revoked"`
		}{wire{t}, n})
	}
	if n == 0 {
		o.say("token %s had ended before: %s\n", term.Safe(t.GetAccessor()), term.Safe(joinNonEmpty(", ", t.GetState(), t.GetReason())))
		return nil
	}
	o.say("revoked token %s: %s ended\n", term.Safe(t.GetAccessor()), count(n, "token", "tokens"))
	return nil
}
