package cli

import (
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type taskListOptions struct {
	*app
	filter apiv1.ListTasksRequest
	limit  int
}

func (a *app) newTaskListCommand() *cobra.Command {
	o := &taskListOptions{app: a}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tasks, the most urgent first",
		Long:    "List tasks: pinned ones first, then by priority. Without --state that is every task that has not ended.",
		Example: `  sop task list
  sop task list --state awaiting_approval
  sop task list --state all --filter 'target : "host/" AND severity = "high"' -o json`,
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.filter.Workspace, "workspace", "w", "", "only of this workspace, by `name`")
	flags.StringSliceVar(&o.filter.States, "state", nil, "only in these `states`, or all: "+strings.Join(taskStates, ", "))
	flags.StringSliceVar(&o.filter.Kinds, "kind", nil, "only of these `kinds`: "+strings.Join(taskKinds, ", "))
	flags.StringVar(&o.filter.Holder, "holder", "", "only what this `agent` works on")
	flags.StringVar(&o.filter.Gap, "gap", "", "only those for the gap with this `id`")
	flags.IntVarP(&o.limit, "limit", "n", 100, "at most `number` tasks; 0 means all")
	addNarrowing(cmd, &o.filter.Filter, &o.filter.OrderBy, `state = ready AND target : "host/"`, "changed_at desc")
	a.completeWords(cmd, "state", append([]string{"all"}, taskStates...)...)
	a.completeWords(cmd, "kind", taskKinds...)
	return cmd
}

func (o *taskListOptions) run(ctx context.Context) error {
	if err := o.check(); err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	tasks, total, err := listTasks(ctx, c, &o.filter, o.limit)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"tasks": wires(tasks)})
	}
	return o.printTable(tasks, total)
}

func (o *taskListOptions) check() error {
	if o.limit < 0 {
		return usagef("--limit must not be negative")
	}
	if slices.Contains(o.filter.States, "all") {
		o.filter.States = taskStates
	}
	for _, state := range o.filter.States {
		if err := oneOf("state", state, append([]string{"all"}, taskStates...)); err != nil {
			return err
		}
	}
	for _, kind := range o.filter.Kinds {
		if err := oneOf("kind", kind, taskKinds); err != nil {
			return err
		}
	}
	return nil
}

// listTasks asks page by page until it has limit tasks, or all when limit is 0.
// The second result says how many there are.
func listTasks(ctx context.Context, c *client, filter *apiv1.ListTasksRequest, limit int) ([]*apiv1.TaskRecord, int64, error) {
	var tasks []*apiv1.TaskRecord
	var total int64
	for {
		filter.PageSize = largestPage
		if limit > 0 {
			filter.PageSize = int32(min(largestPage, limit-len(tasks)))
		}
		answer, err := c.task().ListTasks(ctx, connect.NewRequest(filter))
		if err != nil {
			return nil, 0, err
		}
		tasks = append(tasks, answer.Msg.GetTasks()...)
		total = max(total, answer.Msg.GetTotal()) // on the first page
		filter.PageToken = answer.Msg.GetNextPageToken()
		if filter.PageToken == "" || limit > 0 && len(tasks) >= limit {
			return tasks, total, nil
		}
	}
}

func (o *taskListOptions) printTable(tasks []*apiv1.TaskRecord, total int64) error {
	if len(tasks) == 0 {
		o.say("no tasks\n")
		return nil
	}
	table := o.table(2, "STATE", "PRIORITY", "TITLE", "ROUTE", "HOLDER", "ID")
	table.Whole = []int{5}
	for _, t := range tasks {
		priority := count(t.GetPriority(), "", "")
		if t.GetPinned() {
			priority = "pinned"
		}
		table.Row(term.Styled(taskStyle(t.GetState()), t.GetState()), term.Text(strings.TrimSpace(priority)), term.Text(t.GetTitle()),
			term.Text(joinNonEmpty("/", t.GetRoute(), t.GetSandbox())), term.Text(t.GetHolder()), term.Styled(term.Faint, t.GetId()))
	}
	if _, err := table.WriteTo(o.Out); err != nil {
		return err
	}
	if more := total - int64(len(tasks)); more > 0 {
		o.note("%d more; raise --limit to see them\n", more)
	}
	return nil
}
