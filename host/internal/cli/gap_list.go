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

const largestPage = 1000

type gapListOptions struct {
	*app
	filter apiv1.ListGapsRequest
	limit  int
}

func (a *app) newGapListCommand() *cobra.Command {
	o := &gapListOptions{app: a}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List gaps, worst first",
		Long:    "List gaps, worst first. Without --state that is every gap that is neither resolved nor suppressed.",
		Example: `  sop gap list --severity high
  sop gap list --path docs/ --rule docs.markdown.link
  sop gap list --state suppressed,resolved -o json`,
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.filter.Workspace, "workspace", "w", "", "only of this workspace, by `name`")
	flags.StringSliceVar(&o.filter.States, "state", nil, "only in these `states`, or all: "+strings.Join(gapStates, ", "))
	flags.StringVar(&o.filter.MinSeverity, "severity", "", "of this `severity` or worse: "+strings.Join(severities, ", "))
	flags.StringVar(&o.filter.Rule, "rule", "", "only of this rule, by `id`")
	flags.StringVar(&o.filter.Path, "path", "", "only in this file, or beneath this directory, by `path` in the workspace")
	flags.StringVar(&o.filter.Detector, "detector", "", "only by this detector, by `name`")
	flags.IntVarP(&o.limit, "limit", "n", 0, "at most `number` gaps; 0 means all")
	addNarrowing(cmd, &o.filter.Filter, &o.filter.OrderBy, `severity >= high AND path : "host/"`, "severity desc, path")
	a.completeWords(cmd, "state", append([]string{"all"}, gapStates...)...)
	a.completeWords(cmd, "severity", severities...)
	return cmd
}

func (o *gapListOptions) run(ctx context.Context) error {
	if err := o.check(); err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	gaps, total, err := listGaps(ctx, c, &o.filter, o.limit)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"gaps": wires(gaps)})
	}
	return o.printTable(gaps, total)
}

func (o *gapListOptions) check() error {
	if o.limit < 0 {
		return usagef("--limit must not be negative")
	}
	if slices.Contains(o.filter.States, "all") {
		o.filter.States = gapStates
	}
	for _, state := range o.filter.States {
		if err := oneOf("state", state, append([]string{"all"}, gapStates...)); err != nil {
			return err
		}
	}
	if o.filter.MinSeverity != "" {
		return oneOf("severity", o.filter.MinSeverity, severities)
	}
	return nil
}

// listGaps asks page by page until it has limit gaps, or all when limit is 0.
// The second result says how many there are.
func listGaps(ctx context.Context, c *client, filter *apiv1.ListGapsRequest, limit int) ([]*apiv1.GapRecord, int64, error) {
	var gaps []*apiv1.GapRecord
	var total int64
	for {
		filter.PageSize = largestPage
		if limit > 0 {
			filter.PageSize = int32(min(largestPage, limit-len(gaps)))
		}
		answer, err := c.gap().ListGaps(ctx, connect.NewRequest(filter))
		if err != nil {
			return nil, 0, err
		}
		gaps = append(gaps, answer.Msg.GetGaps()...)
		total = max(total, answer.Msg.GetTotal()) // on the first page
		filter.PageToken = answer.Msg.GetNextPageToken()
		if filter.PageToken == "" || limit > 0 && len(gaps) >= limit {
			return gaps, total, nil
		}
	}
}

func (o *gapListOptions) printTable(gaps []*apiv1.GapRecord, total int64) error {
	if len(gaps) == 0 {
		o.say("no gaps\n")
		return nil
	}
	id := o.shortIDs(gaps)
	table := o.table(3, "SEVERITY", "RULE", "WHERE", "MESSAGE", "STATE", "ID")
	table.Whole = []int{5}
	for _, g := range gaps {
		table.Row(term.Styled(severityStyle(g.GetSeverity()), g.GetSeverity()), term.Text(g.GetRule()),
			term.Text(place(g.GetPath(), g.GetLine())), term.Text(g.GetMessage()), term.Text(g.GetState()), term.Styled(term.Faint, id(g)))
	}
	if _, err := table.WriteTo(o.Out); err != nil {
		return err
	}
	if more := total - int64(len(gaps)); more > 0 {
		o.note("%d more; raise --limit to see them\n", more)
	}
	return nil
}

// shortIDs returns a function that shortens ids for people, to a length at
// which those listed differ. Nothing is shortened in a pipe.
func (o *gapListOptions) shortIDs(gaps []*apiv1.GapRecord) func(*apiv1.GapRecord) string {
	if !o.OutTerminal {
		return (*apiv1.GapRecord).GetId
	}
	ids := make([]string, len(gaps))
	for i, g := range gaps {
		ids[i] = g.GetId()
	}
	slices.Sort(ids)
	length := 8
	for i := 1; i < len(ids); i++ {
		length = max(length, commonPrefix(ids[i-1], ids[i])+1)
	}
	return func(g *apiv1.GapRecord) string { return g.GetId()[:min(length, len(g.GetId()))] }
}

func commonPrefix(x, y string) int {
	n := 0
	for n < len(x) && n < len(y) && x[n] == y[n] {
		n++
	}
	return n
}
