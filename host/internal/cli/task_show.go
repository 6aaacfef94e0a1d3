package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type taskShowOptions struct {
	*app
	id    string
	whole bool // the package alone
}

func (a *app) newTaskShowCommand() *cobra.Command {
	o := &taskShowOptions{app: a}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one task with its history, or all that a generator is told",
		Long: `Show one task with its history. With -o json, the answer holds the task and its whole package: the gaps with their
evidence, the target with its content and hash, requirements, success criteria, verify steps and scaffold. --package writes
the package alone, as docs/generator-task.schema.json describes it.`,
		Example:     "  sop task show 0199f3c2\n  sop task show 0199f3c2 -o json\n  sop task show 0199f3c2 --package > task.json",
		Args:        arguments(1, 1, "the ID of a task"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&o.whole, "package", false, "write the package of the task, as JSON")
	return cmd
}

func (o *taskShowOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.task().GetTask(ctx, connect.NewRequest(&apiv1.GetTaskRequest{Id: o.id}))
	if err != nil {
		return err
	}
	m := answer.Msg
	if problem := m.GetPackageProblem(); problem != "" {
		o.note("there is no package: %s\n", term.Safe(problem))
	}
	switch {
	case o.whole:
		return printJSON(o.Out, packageOf(m.GetPackage()))
	case o.json():
		return printJSON(o.Out, map[string]any{"task": wire{m.GetTask()}, "package": packageOf(m.GetPackage())})
	}
	o.printTask(m.GetTask())
	return nil
}

// packageOf is a package as JSON has it; none is null.
func packageOf(s *structpb.Struct) any {
	if s == nil {
		return nil
	}
	return s.AsMap()
}
