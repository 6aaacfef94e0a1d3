//go:build !front

package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// scanDocument is the JSON form of a scan.
type scanDocument struct {
	Gaps        []wire      `json:"gaps"`
	Diagnostics []wire      `json:"diagnostics"`
	Summary     scanSummary `json:"summary"`
}

type scanSummary struct {
	Total            int              `json:"total"`
	BySeverity       map[string]int64 `json:"by_severity"`
	ByRule           map[string]int64 `json:"by_rule"`
	Files            int64            `json:"files"`
	Complete         bool             `json:"complete"`
	Skipped          map[string]int64 `json:"skipped"`
	DiagnosticsTotal int64            `json:"diagnostics_total"`
	TookMS           int64            `json:"took_ms"`
}

func newScanDocument(outcome *startup.ScanOutcome) scanDocument {
	return scanDocument{
		Gaps:        wires(outcome.Gaps),
		Diagnostics: wires(outcome.Scan.GetDiagnostics()),
		Summary:     newScanSummary(outcome),
	}
}

func newScanSummary(outcome *startup.ScanOutcome) scanSummary {
	scan := outcome.Scan
	s := scanSummary{
		Total: len(outcome.Gaps), BySeverity: make(map[string]int64), ByRule: make(map[string]int64),
		Files: scan.GetFiles(), Complete: scan.GetComplete(), Skipped: scan.GetSkipped(),
		DiagnosticsTotal: max(scan.GetDiagnosticsTotal(), int64(len(scan.GetDiagnostics()))),
		TookMS:           scan.GetTook().AsDuration().Milliseconds(),
	}
	if s.Skipped == nil {
		s.Skipped = map[string]int64{}
	}
	for _, severity := range severities {
		s.BySeverity[severity] = 0
	}
	for _, gap := range outcome.Gaps {
		s.BySeverity[gap.GetSeverity()]++
		s.ByRule[gap.GetRule()]++
	}
	return s
}

// scanTable writes a scan for people.
type scanTable struct {
	palette term.Palette
	width   int
}

func (t scanTable) write(w io.Writer, outcome *startup.ScanOutcome) error {
	var b strings.Builder
	if len(outcome.Gaps) > 0 {
		if err := t.gaps(&b, outcome.Gaps); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	t.diagnostics(&b, outcome.Scan)
	t.summary(&b, outcome)
	_, err := io.WriteString(w, b.String())
	return err
}

func (t scanTable) gaps(w io.Writer, gaps []*apiv1.GapRecord) error {
	table := term.NewTable(t.palette, t.width, 3, "SEVERITY", "RULE", "WHERE", "MESSAGE")
	for _, g := range gaps {
		table.Row(term.Styled(severityStyle(g.GetSeverity()), g.GetSeverity()), term.Text(g.GetRule()),
			term.Text(place(g.GetPath(), g.GetLine())), term.Text(g.GetMessage()))
	}
	_, err := table.WriteTo(w)
	return err
}

func (t scanTable) diagnostics(b *strings.Builder, scan *apiv1.ScanReport) {
	if len(scan.GetDiagnostics()) == 0 {
		return
	}
	fmt.Fprintln(b, "not examined:")
	for _, d := range scan.GetDiagnostics() {
		where := joinNonEmpty(": ", place(d.GetPath(), d.GetLine()), d.GetMessage())
		fmt.Fprintf(b, "  %s (%s)\n", term.Safe(where), term.Safe(joinNonEmpty(", ", d.GetReason(), d.GetDetector())))
	}
	if more := scan.GetDiagnosticsTotal() - int64(len(scan.GetDiagnostics())); more > 0 {
		fmt.Fprintf(b, "  and %d more\n", more)
	}
	b.WriteByte('\n')
}

func (t scanTable) summary(b *strings.Builder, outcome *startup.ScanOutcome) {
	s := newScanSummary(outcome)
	fmt.Fprint(b, count(int64(s.Total), "gap", "gaps"))
	separator := ": "
	for _, severity := range severities {
		if n := s.BySeverity[severity]; n > 0 {
			fmt.Fprint(b, separator, t.palette.Paint(severityStyle(severity), fmt.Sprintf("%d %s", n, severity)))
			separator = ", "
		}
	}
	fmt.Fprintf(b, "; %s in %s", count(s.Files, "file", "files"), took(outcome.Scan.GetTook().AsDuration()))
	if !s.Complete {
		fmt.Fprint(b, t.palette.Paint(term.Yellow, "; incomplete"))
	}
	b.WriteByte('\n')
	if len(s.Skipped) > 0 {
		fmt.Fprintf(b, "skipped: %s\n", skippedText(s.Skipped))
	}
}

// skippedText says what was not looked at, most first.
func skippedText(skipped map[string]int64) string {
	reasons := slices.SortedFunc(maps.Keys(skipped), func(x, y string) int {
		return cmp.Or(cmp.Compare(skipped[y], skipped[x]), strings.Compare(x, y))
	})
	for i, reason := range reasons {
		reasons[i] = fmt.Sprintf("%d %s", skipped[reason], term.Safe(reason))
	}
	return strings.Join(reasons, ", ")
}
