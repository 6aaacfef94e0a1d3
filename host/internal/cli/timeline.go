//go:build !front

package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

const (
	componentColumns = 22
	phaseColumns     = 10
)

// timeline shows what the host does, one thing at a time: lines for people, or
// a JSON object a line. A stream that can no longer be written to does not stop
// the host.
type timeline struct {
	*app
	mu sync.Mutex
}

func newTimeline(a *app) *timeline { return &timeline{app: a} }

// stepLine and scanLine are the JSON forms.
type stepLine struct {
	Type      string    `json:"type"` // "step"
	At        time.Time `json:"at"`
	ElapsedMS float64   `json:"elapsed_ms"`
	Component string    `json:"component"`
	Phase     string    `json:"phase"`
	Detail    string    `json:"detail"`
	Remedy    string    `json:"remedy"`
}

type scanLine struct {
	Type      string    `json:"type"` // "scan"
	At        time.Time `json:"at"`
	First     bool      `json:"first"`
	Workspace wire      `json:"workspace"`
	// Worst are the worst gaps after a first scan.
	Worst []wire `json:"worst_gaps"`
}

// step shows one step of the activation.
func (t *timeline) step(s startup.Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.json() {
		_ = printJSONLine(t.Out, stepLine{"step", t.now().UTC(), float64(s.Elapsed.Microseconds()) / 1000, s.Component, s.Phase, s.Detail, s.Remedy})
		return
	}
	palette := t.palette(t.OutTerminal)
	phase := term.Safe(s.Phase)
	if s.Detail != "" {
		phase = term.Pad(phase, phaseColumns)
	}
	t.say("%s  %s  %s%s\n",
		palette.Paint(term.Faint, fmt.Sprintf("%9.3fs", s.Elapsed.Seconds())),
		term.Pad(term.Safe(s.Component), componentColumns),
		palette.Paint(stateStyle(s.Phase), phase), indented("  ", term.SafeLines(s.Detail)))
	if s.Remedy != "" {
		t.say("%12s%s%s\n", "", palette.Paint(term.BoldCyan, "remedy:"), indented(" ", term.SafeLines(s.Remedy)))
	}
}

// indented sets off text that follows on the same line, and what comes after
// its first line.
func indented(gap, text string) string {
	if text == "" {
		return ""
	}
	return gap + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+strings.Repeat(" ", 12))
}

// firstScan shows what the first scan of a workspace found.
func (t *timeline) firstScan(ws *apiv1.WorkspaceStatus, worst []*apiv1.GapRecord) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.json() {
		_ = printJSONLine(t.Out, scanLine{"scan", t.now().UTC(), true, wire{ws}, wires(worst)})
		return
	}
	scan := ws.GetLastScan()
	palette := t.palette(t.OutTerminal)
	t.say("\n%s  %s\n", palette.Paint(term.Bold, "workspace "+term.Safe(ws.GetName())), term.Safe(ws.GetPath()))
	t.say("  %s in %s; gaps: %s\n", count(scan.GetFiles(), "file", "files"), took(scan.GetTook().AsDuration()), t.countsOf(ws.GetGaps()))
	t.scanTrouble(scan)
	t.worst(worst, openGaps(ws.GetGaps()))
	t.whereNext(worst)
}

func (t *timeline) scanTrouble(scan *apiv1.ScanReport) {
	palette := t.palette(t.OutTerminal)
	if len(scan.GetSkipped()) > 0 {
		t.say("  skipped: %s\n", skippedText(scan.GetSkipped()))
	}
	if scan.GetError() != "" {
		t.say("  %s %s\n", palette.Paint(term.BoldRed, "failed:"), term.Safe(scan.GetError()))
	}
	if n := scan.GetDiagnosticsTotal(); n > 0 {
		t.say("  %s\n", palette.Paint(term.Yellow, fmt.Sprintf("%d not examined, see `sop status -o json`", n)))
	}
}

// worst lists gaps under their severity.
func (t *timeline) worst(gaps []*apiv1.GapRecord, total int64) {
	palette := t.palette(t.OutTerminal)
	table := &term.Table{Width: max(0, t.width()-4), Flex: 2, Palette: palette}
	for _, g := range gaps {
		table.Row(term.Text(place(g.GetPath(), g.GetLine())), term.Styled(term.Faint, g.GetRule()), term.Text(g.GetMessage()))
	}
	var b strings.Builder
	_, _ = table.WriteTo(&b) // a builder takes everything
	severity := ""
	for i, line := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		if i < len(gaps) && gaps[i].GetSeverity() != severity {
			severity = gaps[i].GetSeverity()
			t.say("\n  %s\n", palette.Paint(severityStyle(severity), term.Safe(severity)))
		}
		if line != "" {
			t.say("    %s\n", line)
		}
	}
	if more := total - int64(len(gaps)); more > 0 && len(gaps) > 0 {
		t.say("    and %d more\n", more)
	}
}

func (t *timeline) whereNext(worst []*apiv1.GapRecord) {
	id := "ID"
	if len(worst) > 0 {
		id = term.Safe(worst[0].GetId())
	}
	t.say(`
where to look next, from another terminal:
  %[1]s gap list    all gaps, worst first
  %[1]s status      how the host and its plugins stand
  %[1]s gap show %[2]s

`, cmp.Or(t.program, "sop"), id)
}

// rescan says in a line what a later scan changed, if it did.
func (t *timeline) rescan(ws *apiv1.WorkspaceStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.json() {
		_ = printJSONLine(t.Out, scanLine{"scan", t.now().UTC(), false, wire{ws}, []wire{}})
		return
	}
	scan := ws.GetLastScan()
	news := fmt.Sprintf("%d new, %d back, %d resolved", scan.GetOpened(), scan.GetReopened(), scan.GetResolved())
	switch {
	case scan.GetError() != "":
		news = "failed: " + scan.GetError()
	case scan.GetOpened()+scan.GetReopened()+scan.GetResolved() == 0:
		return
	}
	t.say("%s  workspace %s scanned: %s; gaps: %s\n", t.now().Format(time.TimeOnly), term.Safe(ws.GetName()), term.Safe(news), t.countsOf(ws.GetGaps()))
}

// log returns a writer of the host's log that keeps out of the way of the
// timeline.
func (t *timeline) log() io.Writer { return lockedWriter{&t.mu, t.Err} }

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
