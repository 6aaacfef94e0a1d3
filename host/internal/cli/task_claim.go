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

type taskClaimOptions struct {
	*app
	change
	req   apiv1.ClaimTaskRequest
	lease time.Duration
}

func (a *app) newTaskClaimCommand() *cobra.Command {
	o := &taskClaimOptions{app: a}
	cmd := &cobra.Command{
		Use:   "claim [ID]",
		Short: "Claim a task to work on, and show its token, once",
		Long: `Claim a task: the one named, or the first that is due. The secret of its todo token goes to standard output, once; everything
else to standard error. With -o json, the answer holds the task, its whole package and the token. Renew the claim with
sop task heartbeat, and hand the result over with sop task submit. Exit code 3 says that nothing is due.`,
		Example:     "  sop task claim > token\n  sop task claim 0199f3c2 --lease 10m -o json > claim.json",
		Args:        arguments(0, 1, "at most the ID of a task"),
		Annotations: exits("34567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.req.Id = args[0]
			}
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&o.req.Workspace, "workspace", "w", "", "only of this workspace, by `name`")
	cmd.Flags().DurationVar(&o.lease, "lease", 0, "how long it is held without a heartbeat, such as 10m (default: as configured)")
	o.addChange(cmd)
	return cmd
}

func (o *taskClaimOptions) run(ctx context.Context) error {
	if o.lease != 0 {
		o.req.Lease = durationpb.New(o.lease)
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.req.ValidateOnly, o.req.IdempotencyKey = o.check, o.key
	answer, err := c.task().ClaimTask(ctx, connect.NewRequest(&o.req))
	if err != nil {
		return err
	}
	m := answer.Msg
	t := m.GetTask()
	if t == nil {
		if o.json() {
			return nothingDue(printJSON(o.Out, map[string]any{"task": nil}))
		}
		o.note("nothing is due\n")
		return exitError(exitPending)
	}
	if o.check {
		return o.would("task " + t.GetId() + " would be claimed")
	}
	if o.json() {
		return printJSON(o.Out, map[string]any{"task": wire{t}, "package": packageOf(m.GetPackage()), "token": m.GetToken()})
	}
	o.note("claimed %s, fence %d, until %s: %s\n", term.Safe(t.GetId()), t.GetFence(), t.GetLeaseUntil().AsTime().Format("15:04:05 MST"), term.Safe(t.GetTitle()))
	o.say("%s\n", m.GetToken())
	return nil
}

// nothingDue is how a claim ends that found nothing, once that is written.
func nothingDue(err error) error {
	if err != nil {
		return err
	}
	return exitError(exitPending)
}
