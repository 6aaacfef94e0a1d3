package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type backupListOptions struct {
	*app
	req   apiv1.ListBackupsRequest
	limit int
}

func (a *app) newBackupListCommand() *cobra.Command {
	o := &backupListOptions{app: a}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List snapshots, latest first",
		Long:    "List snapshots, latest first. Without --state that is every snapshot that was not deleted.",
		Example: `  sop backup list --workspace main
  sop backup list --filter 'reason = integration AND created_at >= 2026-11-01' -o json`,
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.req.Workspace, "workspace", "w", "", "only of this workspace, by `name`")
	flags.StringVar(&o.req.Plugin, "plugin", "", "only in this backup plugin, by `name`")
	flags.StringVar(&o.req.Task, "task", "", "only those made for this task, by `id`")
	flags.StringVar(&o.req.Patch, "patch", "", "only those made for this patch, by `id`")
	flags.StringVar(&o.req.Schedule, "schedule", "", "only those made by this schedule, by `name`")
	flags.StringSliceVar(&o.req.States, "state", nil, "only in these `states`: kept, lost, deleted")
	flags.IntVarP(&o.limit, "limit", "n", 0, "at most `number` snapshots; 0 means all")
	addNarrowing(cmd, &o.req.Filter, &o.req.OrderBy, `reason = integration AND bytes > 1000000`, "bytes desc")
	a.completeWords(cmd, "state", "kept", "lost", "deleted")
	return cmd
}

func (o *backupListOptions) run(ctx context.Context) error {
	if o.limit < 0 {
		return usagef("--limit must not be negative")
	}
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.req.PageSize = largestPage
	all, err := everyPage(func(token string) ([]*apiv1.BackupRecord, string, error) {
		o.req.PageToken = token
		answer, err := c.backup().ListBackups(ctx, connect.NewRequest(&o.req))
		if err != nil {
			return nil, "", err
		}
		return answer.Msg.GetBackups(), answer.Msg.GetNextPageToken(), nil
	})
	if err != nil {
		return err
	}
	more := 0
	if o.limit > 0 && len(all) > o.limit {
		all, more = all[:o.limit], len(all)-o.limit
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"backups": wires(all)})
	}
	if len(all) == 0 {
		o.say("no snapshots\n")
		return nil
	}
	if _, err := o.backupTable(all).WriteTo(o.Out); err != nil {
		return err
	}
	if more > 0 {
		o.note("%d more; raise --limit to see them\n", more)
	}
	return nil
}

func (a *app) backupTable(all []*apiv1.BackupRecord) *term.Table {
	table := a.table(4, "ID", "WHEN", "OF", "FILES", "WHY", "SIZE", "PLUGIN", "VERIFIED", "STATE")
	table.Whole = []int{0}
	for _, b := range all {
		why := b.GetReason()
		if b.GetPatch() != "" {
			why += " " + b.GetPatch()
		} else if b.GetSchedule() != "" {
			why += " " + b.GetSchedule()
		}
		table.Row(term.Styled(term.Faint, b.GetId()), term.Text(ago(a.now(), b.GetCreatedAt())), term.Text(backupOf(b)),
			term.Text(count(b.GetFiles(), "file", "files")), term.Text(why), term.Text(sizeText(b.GetBytes())), term.Text(b.GetPlugin()),
			term.Text(verifiedText(a, b)), backupState(b))
	}
	return table
}

// verifiedText says when, and how, a snapshot was last found intact.
func verifiedText(a *app, b *apiv1.BackupRecord) string {
	switch {
	case b.GetDataVerifiedAt() != nil:
		return "data " + ago(a.now(), b.GetDataVerifiedAt())
	case b.GetVerifiedAt() != nil:
		return "structure " + ago(a.now(), b.GetVerifiedAt())
	}
	return "-"
}
