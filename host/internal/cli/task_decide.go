package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// taskDecision is a command by which an operator decides on a task.
type taskDecision struct {
	*app
	change
	id, reason, done, asked string
	call                    func(ctx context.Context, c *client, o *taskDecision) (*apiv1.TaskRecord, error)
}

func (o *taskDecision) command(cmd *cobra.Command) *cobra.Command {
	cmd.Args = arguments(1, 1, "the ID of a task")
	cmd.Annotations = exits("4567")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.id = args[0]
		return o.run(cmd.Context())
	}
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *taskDecision) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	t, err := o.call(ctx, c, o)
	if err != nil {
		return err
	}
	if o.check {
		return o.would(o.asked)
	}
	return o.printTaskDecision(o.done, t)
}

func (a *app) newTaskCancelCommand() *cobra.Command {
	o := &taskDecision{app: a, done: "cancelled", asked: "the task would be cancelled"}
	o.call = func(ctx context.Context, c *client, o *taskDecision) (*apiv1.TaskRecord, error) {
		answer, err := c.task().CancelTask(ctx, connect.NewRequest(&apiv1.CancelTaskRequest{Id: o.id, Reason: o.reason, ValidateOnly: o.check, IdempotencyKey: o.key}))
		if err != nil {
			return nil, err
		}
		return answer.Msg.GetTask(), nil
	}
	return o.command(&cobra.Command{
		Use:     "cancel ID",
		Short:   "End a task that is not wanted",
		Long:    "End a task that is not wanted. Whoever works on it is told to stop with the next heartbeat. No other task is made of its gaps; retry it to have it done after all.",
		Example: "  sop task cancel 0199f3c2 --reason \"the package goes away\"",
	})
}

func (a *app) newTaskRetryCommand() *cobra.Command {
	o := &taskDecision{app: a, done: "ready again:", asked: "the task would be ready again"}
	o.call = func(ctx context.Context, c *client, o *taskDecision) (*apiv1.TaskRecord, error) {
		answer, err := c.task().RetryTask(ctx, connect.NewRequest(&apiv1.RetryTaskRequest{Id: o.id, Reason: o.reason, ValidateOnly: o.check, IdempotencyKey: o.key}))
		if err != nil {
			return nil, err
		}
		return answer.Msg.GetTask(), nil
	}
	return o.command(&cobra.Command{
		Use:     "retry ID",
		Short:   "Have a task tried again, now",
		Long:    "Have a task tried again, now, with all its attempts before it: one that has failed, or was denied, cancelled or rolled back.",
		Example: "  sop task retry 0199f3c2 --reason \"the compiler is installed now\"",
	})
}

func (a *app) newTaskPinCommand() *cobra.Command {
	o := &taskDecision{app: a, done: "pinned", asked: "the task would be pinned"}
	unpin := false
	o.call = func(ctx context.Context, c *client, o *taskDecision) (*apiv1.TaskRecord, error) {
		if unpin {
			o.done, o.asked = "unpinned", "the task would be unpinned"
		}
		answer, err := c.task().PinTask(ctx, connect.NewRequest(&apiv1.PinTaskRequest{Id: o.id, Off: unpin, Reason: o.reason, ValidateOnly: o.check, IdempotencyKey: o.key}))
		if err != nil {
			return nil, err
		}
		return answer.Msg.GetTask(), nil
	}
	cmd := o.command(&cobra.Command{
		Use:     "pin ID",
		Short:   "Put a task before all that are not pinned",
		Long:    "Put a task before all that are not pinned. One that waits in the backlog is opened.",
		Example: "  sop task pin 0199f3c2\n  sop task pin 0199f3c2 --off",
	})
	cmd.Flags().BoolVar(&unpin, "off", false, "take the pin off")
	return cmd
}
