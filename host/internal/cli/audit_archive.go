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
	change
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
		Example:     "  sop audit archive --before 90d --check\n  sop audit archive --before 2026-01-01",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&o.before, "before", "", "only what is older than a `time` (2026-12-31, RFC 3339), or than so long ago (90d)")
	cmd.Flags().Int64Var(&o.segment, "segment", 0, "`number` of records of a segment (default as configured)")
	o.addChange(cmd)
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
	answer, err := c.audit().ArchiveRecords(ctx, connect.NewRequest(&apiv1.ArchiveRecordsRequest{Before: before, Segment: o.segment, ValidateOnly: o.check, IdempotencyKey: o.key}))
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
	if o.check {
		verb = "would be moved to"
	}
	for _, s := range archives {
		o.say("records %d to %d %s %s\n", s.GetFirst(), s.GetLast(), verb, term.Safe(s.GetFile()))
	}
	return nil
}

type auditArchivesOptions struct {
	*app
	narrow apiv1.ListArchivesRequest
}

func (a *app) newAuditArchivesCommand() *cobra.Command {
	o := &auditArchivesOptions{app: a}
	cmd := &cobra.Command{
		Use:         "archives",
		Short:       "List the files that old records were moved to",
		Example:     "  sop audit archives\n  sop audit archives --filter 'until >= 2026-03-01' -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	addNarrowing(cmd, &o.narrow.Filter, &o.narrow.OrderBy, "until >= 2026-03-01", "first desc")
	return cmd
}

func (o *auditArchivesOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.narrow.PageSize = largestPage
	archives, err := everyPage(func(token string) ([]*apiv1.AuditArchive, string, error) {
		o.narrow.PageToken = token
		answer, err := c.audit().ListArchives(ctx, connect.NewRequest(&o.narrow))
		if err != nil {
			return nil, "", err
		}
		return answer.Msg.GetArchives(), answer.Msg.GetNextPageToken(), nil
	})
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string][]wire{"archives": wires(archives)})
	}
	if len(archives) == 0 {
		o.say("nothing was archived: all records are in the database\n")
		return nil
	}
	table := o.table(2, "FIRST", "LAST", "FILE", "BYTES", "FROM (UTC)", "UNTIL (UTC)")
	for _, s := range archives {
		table.Row(term.Text(strconv.FormatInt(s.GetFirst(), 10)), term.Text(strconv.FormatInt(s.GetLast(), 10)), term.Text(s.GetFile()),
			term.Text(strconv.FormatInt(s.GetBytes(), 10)), term.Text(s.GetFrom().AsTime().Format("2006-01-02 15:04:05")),
			term.Text(s.GetUntil().AsTime().Format("2006-01-02 15:04:05")))
	}
	_, err = table.WriteTo(o.Out)
	return err
}
