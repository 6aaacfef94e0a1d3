package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type tokenShowOptions struct {
	*app
	id string
}

func (a *app) newTokenShowCommand() *cobra.Command {
	o := &tokenShowOptions{app: a}
	return &cobra.Command{
		Use:         "show ID",
		Short:       "Show one token with its history",
		Long:        "Show one token with its history, without its secret. ID is its accessor, its id, or an unambiguous beginning of the id.",
		Example:     "  sop token show 4kFz0aYt2QmB91xw\n  sop token show 0199f3c2 -o json",
		Args:        tokenArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
}

func (o *tokenShowOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.token().GetToken(ctx, connect.NewRequest(&apiv1.GetTokenRequest{Id: o.id}))
	if err != nil {
		return err
	}
	return o.printToken(answer.Msg.GetToken())
}
