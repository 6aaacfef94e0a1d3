package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type agentEnrollOptions struct {
	*app
	request apiv1.EnrollAgentRequest
	change
	ttl time.Duration
}

func (a *app) newAgentEnrollCommand() *cobra.Command {
	o := &agentEnrollOptions{app: a}
	cmd := &cobra.Command{
		Use:   "enroll NAME",
		Short: "Enroll an agent and show its key, once",
		Long: `Enroll an agent. Its key goes to standard output, once; everything else to standard error. A name is given once:
that of an agent that was revoked is not given again.`,
		Example: `  sop agent enroll agent-7 --group builders --ttl 720h > agent-7.key
  sop agent enroll ci --trust system --reason "deploys from the pipeline" -o json`,
		Args:        agentArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Name = args[0]
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.request.Trust, "trust", "exterior", "how far it is `trusted`: exterior or system")
	flags.StringSliceVar(&o.request.Groups, "group", nil, "`groups` that it is in")
	flags.DurationVar(&o.ttl, "ttl", 0, "how long it lives, a `time` such as 720h (default: without end)")
	flags.StringVar(&o.request.Reason, "reason", "", "what for, in `words`")
	o.addChange(cmd)
	a.completeWords(cmd, "trust", agentTrusts...)
	return cmd
}

func (o *agentEnrollOptions) run(ctx context.Context) error {
	if err := oneOf("trust", o.request.Trust, agentTrusts); err != nil {
		return err
	}
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
	answer, err := c.agent().EnrollAgent(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the agent would be enrolled")
	}
	return o.printKey(answer.Msg.GetKey(), answer.Msg.GetAgent())
}
