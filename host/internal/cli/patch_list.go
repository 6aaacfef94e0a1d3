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

type patchListOptions struct {
	*app
	filter apiv1.ListPatchesRequest
	limit  int
}

func (a *app) newPatchListCommand() *cobra.Command {
	o := &patchListOptions{app: a}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List patches, latest first",
		Long:    "List patches, latest first. Without --state those are listed that something is still to become of, and those that are integrated.",
		Example: `  sop patch list --state verified
  sop patch list --filter 'risks : "ci" AND files > 10'`,
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.filter.Workspace, "workspace", "w", "", "only of this workspace, by `name`")
	flags.StringVar(&o.filter.Task, "task", "", "only of this task, by `id`")
	flags.StringSliceVar(&o.filter.States, "state", nil, "only in these `states`, or all: "+strings.Join(patchStates, ", "))
	flags.IntVarP(&o.limit, "limit", "n", 0, "at most `number` patches; 0 means all")
	addNarrowing(cmd, &o.filter.Filter, &o.filter.OrderBy, `risks : "ci"`, "changed_at desc")
	a.completeWords(cmd, "state", append([]string{"all"}, patchStates...)...)
	return cmd
}

func (o *patchListOptions) run(ctx context.Context) error {
	if o.limit < 0 {
		return usagef("--limit must not be negative")
	}
	if slices.Contains(o.filter.States, "all") {
		o.filter.States = patchStates
	}
	for _, state := range o.filter.States {
		if err := oneOf("state", state, append([]string{"all"}, patchStates...)); err != nil {
			return err
		}
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	patches, err := o.list(ctx, c)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"patches": wires(patches)})
	}
	return o.printTable(patches)
}

// list asks page by page until it has as many as are wanted.
func (o *patchListOptions) list(ctx context.Context, c *client) ([]*apiv1.PatchRecord, error) {
	var patches []*apiv1.PatchRecord
	for {
		o.filter.PageSize = largestPage
		if o.limit > 0 {
			o.filter.PageSize = int32(min(largestPage, o.limit-len(patches)))
		}
		answer, err := c.patch().ListPatches(ctx, connect.NewRequest(&o.filter))
		if err != nil {
			return nil, err
		}
		patches = append(patches, answer.Msg.GetPatches()...)
		o.filter.PageToken = answer.Msg.GetNextPageToken()
		if o.filter.PageToken == "" || o.limit > 0 && len(patches) >= o.limit {
			return patches, nil
		}
	}
}

func (o *patchListOptions) printTable(patches []*apiv1.PatchRecord) error {
	if len(patches) == 0 {
		o.say("no patches\n")
		return nil
	}
	table := o.table(1, "STATE", "TITLE", "WORKSPACE", "FILES", "RISKS", "PROPOSER", "PROPOSED", "ID")
	table.Whole = []int{7}
	waiting := 0
	for _, p := range patches {
		if p.GetState() == "verified" {
			waiting++
		}
		table.Row(term.Styled(patchStateStyle(p.GetState()), p.GetState()), term.Text(p.GetTitle()), term.Text(p.GetWorkspace()),
			term.Text(count(int64(p.GetFiles()), "file", "files")), term.Styled(term.Red, strings.Join(p.GetRisks(), ",")), term.Text(p.GetProposer()),
			term.Text(ago(o.now(), p.GetCreatedAt())), term.Styled(term.Faint, p.GetId()))
	}
	if _, err := table.WriteTo(o.Out); err != nil {
		return err
	}
	if waiting > 0 {
		o.note("%s for approval: sop patch show ID, sop patch approve ID\n", count(int64(waiting), "patch waits", "patches wait"))
	}
	return nil
}
