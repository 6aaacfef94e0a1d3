package cli

import (
	"strings"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// actionStyle colours what is done to a thing.
func actionStyle(action string) term.Style {
	switch action {
	case "start", "added":
		return term.Green
	case "stop", "removed":
		return term.Red
	case "restart", "update", "updated":
		return term.Yellow
	}
	return term.Faint
}

// pending counts the changes that do something.
func pending(changes []*apiv1.PlannedChange) int {
	n := 0
	for _, c := range changes {
		if c.GetAction() != "unchanged" {
			n++
		}
	}
	return n
}

// printChanges writes what does something, and how much stays as it is.
func (a *app) printChanges(changes []*apiv1.PlannedChange) error {
	table := &term.Table{Width: a.width(), Flex: 2, Palette: a.palette(a.OutTerminal)}
	for _, c := range changes {
		if c.GetAction() != "unchanged" {
			table.Row(term.Styled(actionStyle(c.GetAction()), c.GetAction()), term.Text(c.GetSubject()), term.Text(strings.Join(c.GetReasons(), ", ")))
		}
	}
	if _, err := table.WriteTo(a.Out); err != nil {
		return err
	}
	if same := len(changes) - pending(changes); same > 0 {
		a.say("%d unchanged\n", same)
	}
	return nil
}

// diagnosticsText returns findings about a configuration as the host worded them.
func diagnosticsText(diagnostics []*apiv1.ConfigDiagnostic) string {
	all := make([]string, len(diagnostics))
	for i, d := range diagnostics {
		all[i] = term.SafeLines(strings.TrimRight(d.GetText(), "\n")) + "\n"
	}
	return strings.Join(all, "\n")
}
