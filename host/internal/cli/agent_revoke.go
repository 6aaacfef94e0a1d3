package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type agentRevokeOptions struct {
	*app
	request apiv1.RevokeAgentRequest
	change
}

func (a *app) newAgentRevokeCommand() *cobra.Command {
	o := &agentRevokeOptions{app: a}
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "End an agent with all its keys, at once",
		Long: `End an agent with all its keys, at once and for good. It is refused under its name by whatever else it proves
itself, too. So are the tokens that it holds, with all that was issued from them, and tasks that it has claimed can be claimed by
others. Tokens that it has issued to others stay: sop token list --filter 'issued_by = NAME' shows them.`,
		Example:     "  sop agent revoke agent-7 --reason \"its machine was stolen\"",
		Args:        agentArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Name = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *agentRevokeOptions) run(ctx context.Context) error {
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.agent().RevokeAgent(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	switch {
	case o.check:
		return o.would("the agent would be revoked")
	case o.json():
		return printJSON(o.Out, struct {
			Agent         wire  `json:"agent"`
			RevokedTokens int64 `json:"revoked_tokens"`
			ReleasedTasks int64 `json:"released_tasks"`
		}{wire{answer.Msg.GetAgent()}, answer.Msg.GetRevokedTokens(), answer.Msg.GetReleasedTasks()})
	default:
		o.say("revoked agent %s%s\n", term.Safe(answer.Msg.GetAgent().GetName()), forfeited(answer.Msg))
	}
	return nil
}

// forfeited says what ended with the agent.
func forfeited(r *apiv1.RevokeAgentResponse) string {
	tokens, tasks := r.GetRevokedTokens(), r.GetReleasedTasks()
	if tokens == 0 && tasks == 0 {
		return ""
	}
	return ", which ended " + count(tokens, "token", "tokens") + " and gave back " + count(tasks, "task", "tasks")
}
