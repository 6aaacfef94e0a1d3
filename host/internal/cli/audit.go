package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

var auditOutcomes = []string{"success", "failure", "denied"}

func (a *app) newAuditCommand() *cobra.Command {
	return a.newGroup("audit", "Read, verify and export the audit log",
		"The audit log says who did what, with what outcome. Its records are chained by hashes and signed by the host's key.",
		a.newAuditTailCommand(), a.newAuditSearchCommand(), a.newAuditVerifyCommand(),
		a.newAuditExportCommand(), a.newAuditCheckpointCommand(), a.newAuditSinksCommand(),
		a.newAuditArchiveCommand(), a.newAuditArchivesCommand())
}

// auditFilterFlags are the flags that choose records.
type auditFilterFlags struct {
	actor, action, resource, outcome, since, until string
}

func (f *auditFilterFlags) add(a *app, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.actor, "actor", "", "only by this actor, such as uid:1000, by `name`")
	flags.StringVar(&f.action, "action", "", "only this action, or those that begin so, such as gap., by `name`")
	flags.StringVar(&f.resource, "resource", "", "only about this, such as plugin/detector.docs, by `name`")
	flags.StringVar(&f.outcome, "outcome", "", "only with this `outcome`: success, failure or denied")
	flags.StringVar(&f.since, "since", "", "from a `time` on (2026-12-31, RFC 3339), or how long ago (12h, 90d)")
	flags.StringVar(&f.until, "until", "", "before a `time`, or how long ago")
	a.completeWords(cmd, "outcome", auditOutcomes...)
}

func (f *auditFilterFlags) filter(now time.Time) (*apiv1.AuditFilter, error) {
	out := &apiv1.AuditFilter{Actor: f.actor, Action: f.action, Resource: f.resource, Outcome: f.outcome}
	if f.outcome != "" {
		if err := oneOf("outcome", f.outcome, auditOutcomes); err != nil {
			return nil, err
		}
	}
	var err error
	if out.Since, err = parsePast("since", now, f.since); err != nil {
		return nil, err
	}
	out.Until, err = parsePast("until", now, f.until)
	return out, err
}

// parsePast reads a time, or how long ago it was; nil stands for none.
func parsePast(flag string, now time.Time, text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if t, ok := readInstant(text); ok {
		return timestamppb.New(t), nil
	}
	t, ok := readTime(now, text)
	if !ok {
		return nil, usagef("--%s: %q is no time", flag, text).WithRemedy("write 2026-12-31, 2026-12-31T18:00:00Z, 12h or 90d")
	}
	return timestamppb.New(now.Add(-t.Sub(now))), nil // a length of time counts backwards here
}

func auditTime(r *apiv1.AuditRecord) string {
	return r.GetTime().AsTime().Format("2006-01-02 15:04:05")
}

func outcomeStyle(outcome string) term.Style {
	switch outcome {
	case "success":
		return term.Green
	case "failure":
		return term.Yellow
	}
	return term.Red
}

// printRecords writes records as a table.
func (a *app) printRecords(records []*apiv1.AuditRecord) error {
	table := a.table(6, "SEQ", "TIME (UTC)", "ACTOR", "ACTION", "RESOURCE", "OUTCOME", "REASON")
	table.Whole = []int{0, 1}
	for _, r := range records {
		table.Row(term.Styled(term.Faint, strconv.FormatInt(r.GetSeq(), 10)), term.Text(auditTime(r)), term.Text(r.GetActor()),
			term.Text(r.GetAction()), term.Text(r.GetResource()), term.Styled(outcomeStyle(r.GetOutcome()), r.GetOutcome()), term.Text(r.GetReason()))
	}
	_, err := table.WriteTo(a.Out)
	return err
}

// printRecord writes one record as a line, where more will follow.
func (a *app) printRecord(r *apiv1.AuditRecord) error {
	if a.json() {
		return printJSONLine(a.Out, wire{r})
	}
	outcome := a.palette(a.OutTerminal).Paint(outcomeStyle(r.GetOutcome()), term.Safe(r.GetOutcome()))
	line := joinNonEmpty("  ", strconv.FormatInt(r.GetSeq(), 10), auditTime(r), term.Safe(r.GetActor()), term.Safe(r.GetAction()),
		term.Safe(r.GetResource()), outcome, term.Safe(r.GetReason()))
	_, err := fmt.Fprintln(a.Out, line)
	return err
}
