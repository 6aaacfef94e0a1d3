package cli

import (
	"context"
	"strconv"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type auditArchiveOptions struct {
	*app
	before  string
	segment int64
	dryRun  bool
}

func (a *app) newAuditArchiveCommand() *cobra.Command {
	o := &auditArchiveOptions{app: a}
	cmd := &cobra.Command{
		Use:   "archive",
		Short: "Move old records to files",
		Long: `Move old records from the database to files in logs/audit of data_dir: whole segments, each with the signed checkpoint
that covers it. A segment is written, read back and verified before its records leave the database. Nothing is deleted:
` + "`sop audit verify`, `sop audit export` and mirrors" + ` read the files, and miss each one that is gone.
Without --before, it does at once what retention in the configuration does by itself.`,
		Example:     "  sop audit archive --before 90d --dry-run\n  sop audit archive --before 2026-01-01",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&o.before, "before", "", "only what is older than a `time` (2026-12-31, RFC 3339), or than so long ago (90d)")
	cmd.Flags().Int64Var(&o.segment, "segment", 0, "`number` of records of a segment (default as configured)")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "move nothing and say what would be")
	return cmd
}

func (o *auditArchiveOptions) run(ctx context.Context) error {
	if o.segment < 0 {
		return usagef("--segment must not be negative")
	}
	before, err := parsePast("before", o.now(), o.before)
	if err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.audit.ArchiveRecords(ctx, connect.NewRequest(&apiv1.ArchiveRecordsRequest{Before: before, Segment: o.segment, ValidateOnly: o.dryRun}))
	if err != nil {
		return err
	}
	archives := answer.Msg.GetArchives()
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"archives": wires(archives)})
	}
	if len(archives) == 0 {
		o.say("nothing to archive: no whole segment that ends at a checkpoint is that old\n")
		return nil
	}
	verb := "moved to"
	if o.dryRun {
		verb = "would be moved to"
	}
	for _, s := range archives {
		o.say("records %d to %d %s %s\n", s.GetFirst(), s.GetLast(), verb, term.Safe(s.GetFile()))
	}
	return nil
}

func (a *app) newAuditArchivesCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "archives",
		Short:       "List the files that old records were moved to",
		Example:     "  sop audit archives\n  sop audit archives -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.runAuditArchives(cmd.Context()) },
	}
}

func (a *app) runAuditArchives(ctx context.Context) error {
	ctx, cancel := a.bounded(ctx, queryTimeout)
	defer cancel()
	c := a.connect()
	defer c.Close()
	answer, err := c.audit.ListArchives(ctx, connect.NewRequest(&apiv1.ListArchivesRequest{}))
	if err != nil {
		return err
	}
	archives := answer.Msg.GetArchives()
	if a.json() {
		return printJSON(a.Out, map[string][]wire{"archives": wires(archives)})
	}
	if len(archives) == 0 {
		a.say("nothing was archived: all records are in the database\n")
		return nil
	}
	table := a.table(2, "FIRST", "LAST", "FILE", "BYTES", "FROM (UTC)", "UNTIL (UTC)")
	for _, s := range archives {
		table.Row(term.Text(strconv.FormatInt(s.GetFirst(), 10)), term.Text(strconv.FormatInt(s.GetLast(), 10)), term.Text(s.GetFile()),
			term.Text(strconv.FormatInt(s.GetBytes(), 10)), term.Text(s.GetFrom().AsTime().Format("2006-01-02 15:04:05")),
			term.Text(s.GetUntil().AsTime().Format("2006-01-02 15:04:05")))
	}
	_, err = table.WriteTo(a.Out)
	return err
}
