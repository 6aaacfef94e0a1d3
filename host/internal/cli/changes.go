package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/config"
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
		fmt.Fprintf(a.Out, "%d unchanged\n", same)
	}
	return nil
}

// printDiagnostics writes findings about a configuration that the host sent.
func (a *app) printDiagnostics(w io.Writer, palette term.Palette, diagnostics []*apiv1.ConfigDiagnostic) {
	for i, d := range diagnostics {
		if i > 0 {
			fmt.Fprintln(w)
		}
		style := term.BoldRed
		if d.GetSeverity() == string(config.SeverityWarning) {
			style = term.Yellow
		}
		fmt.Fprintf(w, "%s %s\n", palette.Paint(style, term.Safe(d.GetSeverity())+":"), palette.Paint(term.Bold, term.Safe(d.GetSummary())))
		if d.GetFile() != "" {
			at := config.Range{File: d.GetFile(), Line: int(d.GetLine()), Column: int(d.GetColumn())}
			fmt.Fprintf(w, "  at %s\n", term.Safe(at.String()))
		}
		if d.GetText() != "" {
			fmt.Fprintln(w, strings.TrimRight(term.SafeLines(d.GetText()), "\n"))
		}
		if d.GetDetail() != "" {
			fmt.Fprintln(w, term.SafeLines(d.GetDetail()))
		}
	}
}
