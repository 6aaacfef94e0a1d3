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

type agentRotateOptions struct {
	*app
	request apiv1.RotateAgentRequest
	change
	grace, ttl time.Duration
}

func (a *app) newAgentRotateCommand() *cobra.Command {
	o := &agentRotateOptions{app: a}
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Give an agent a new key and show it, once",
		Long: `Give an agent a new key. It goes to standard output, once. The keys before end at once, or after --grace.
That of the built-in agent root goes to state/root.credential in the host's data directory instead.`,
		Example: `  sop agent rotate agent-7 --grace 1h > agent-7.key
  sop agent rotate agent-7 --ttl 720h > agent-7.key
  sop agent rotate root`,
		Args:        agentArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Name = args[0]
			if cmd.Flags().Changed("ttl") {
				o.request.Ttl = durationpb.New(o.ttl)
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.grace, "grace", 0, "how long the keys before stay valid, a `time` such as 1h (default: not at all)")
	flags.DurationVar(&o.ttl, "ttl", 0, "a new life of the agent from now, a `time`; 0 is without end (default: it ends when it was to)")
	flags.StringVar(&o.request.Reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *agentRotateOptions) run(ctx context.Context) error {
	switch {
	case o.grace < 0:
		return usagef("--grace must not be negative")
	case o.ttl < 0:
		return usagef("--ttl must not be negative")
	case o.grace > 0:
		o.request.Grace = durationpb.New(o.grace)
	}
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.agent().RotateAgent(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	switch key, record := answer.Msg.GetKey(), answer.Msg.GetAgent(); {
	case o.check:
		return o.would("the agent would be given a new key")
	case key != "":
		return o.printKey(key, record)
	case o.json():
		return printJSON(o.Out, map[string]wire{"agent": {record}})
	default:
		o.say("rotated the key of %s: the new one is in state/root.credential in the host's data directory\n", term.Safe(record.GetName()))
		return nil
	}
}
