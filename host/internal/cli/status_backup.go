package cli

import (
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// statusBackups writes how the schedules of backups stand; what is wrong with
// them stands among the reasons.
func (a *app) statusBackups(b *strings.Builder, all []*apiv1.BackupScheduleStatus) error {
	if len(all) == 0 {
		return nil
	}
	b.WriteByte('\n')
	table := a.table(1, "BACKUP", "OF", "STATE", "SAVED", "VERIFIED", "ALL DATA", "DRILL", "NEXT")
	for _, s := range all {
		of := s.GetWorkspace()
		if of == "" {
			of = "(state)"
		}
		state := "ok"
		switch {
		case s.GetRunning() != "":
			state = s.GetRunning()
		case len(s.GetProblems()) > 0:
			state = "failed"
		}
		table.Row(term.Text(s.GetSchedule()), term.Text(of), term.Styled(stateStyle(state), state), term.Text(ago(a.now(), s.GetLastSave())),
			term.Text(ago(a.now(), s.GetLastVerification())), term.Text(ago(a.now(), s.GetLastDataVerification())), term.Text(ago(a.now(), s.GetLastDrill())),
			term.Text(a.until(s.GetNextSave())))
	}
	_, err := table.WriteTo(b)
	return err
}

// until says how far ahead a time is.
func (a *app) until(t *timestamppb.Timestamp) string {
	switch {
	case t == nil:
		return "-"
	case !t.AsTime().After(a.now()):
		return "now"
	}
	return "in " + age(t.AsTime().Sub(a.now()))
}
