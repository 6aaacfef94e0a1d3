package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type taskCreateOptions struct {
	*app
	change
	req apiv1.CreateTaskRequest
}

func (a *app) newTaskCreateCommand() *cobra.Command {
	o := &taskCreateOptions{app: a}
	cmd := &cobra.Command{
		Use:   "create TITLE --workspace NAME",
		Short: "Make a task by hand",
		Long: `Make a task by hand: for gaps that no rule is for, or for anything else. It is ready at once, unless it depends on what
is not done or not available.`,
		Example: `  sop task create "Explain how backups are pruned" -w main --target docs/backup.md --goal "A reader can tell which snapshots stay."
  sop task create "Close it" -w main --gap 0199f3c2 --sandbox scaffold`,
		Args:        arguments(1, 1, "a TITLE"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.req.Title = args[0]
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.req.Workspace, "workspace", "w", "", "the `name` of the workspace; required")
	flags.StringVar(&o.req.Target, "target", "", "`path` of what is to change, in the workspace")
	flags.StringSliceVar(&o.req.Gaps, "gap", nil, "`id` of a gap that it closes")
	flags.StringVar(&o.req.Type, "type", "", "`type` of the work, such as documentation_incomplete")
	flags.StringVar(&o.req.Goal, "goal", "", "what is to be achieved, in a `sentence`")
	flags.StringArrayVar(&o.req.SuccessCriteria, "criterion", nil, "a `sentence` that must be true afterwards")
	flags.StringArrayVar(&o.req.Requirements, "requirement", nil, "a `sentence` that the change must keep to")
	flags.StringArrayVar(&o.req.Scope, "scope", nil, "a `pattern` of what may change; default: everything")
	flags.StringArrayVar(&o.req.Protected, "protect", nil, "a `pattern` of what must not change")
	flags.StringSliceVar(&o.req.DependsOn, "after", nil, "`id` of a task that must be done before")
	flags.StringSliceVar(&o.req.Needs, "needs", nil, "`name` of a protocol that must be available")
	flags.StringVar(&o.req.Sandbox, "sandbox", "", "`name` of the sandbox plugin that works on it")
	flags.StringVar(&o.req.Scaffold, "scaffold", "", "`name` of the scaffold to apply")
	flags.BoolVar(&o.req.Pinned, "pin", false, "put it before all that are not pinned")
	flags.StringVar(&o.req.Reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *taskCreateOptions) run(ctx context.Context) error {
	if o.req.GetWorkspace() == "" {
		return usagef("--workspace is missing").WithRemedy("name the tree that the task is for; `sop workspace list` has them")
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.req.ValidateOnly, o.req.IdempotencyKey = o.check, o.key
	answer, err := c.task().CreateTask(ctx, connect.NewRequest(&o.req))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the task would be made")
	}
	return o.printTaskDecision("made", answer.Msg.GetTask())
}
