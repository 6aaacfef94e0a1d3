package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// gapStates are the states of gaps, as the API names them.
var gapStates = []string{"open", "acknowledged", "ticketed", "in_progress", "verifying", "resolved", "suppressed"}

func (a *app) newGapCommand() *cobra.Command {
	return a.newGroup("gap", "Look at gaps and decide on them",
		"A gap is one deficiency in a governed tree. It keeps its id for as long as it lives, wherever its code moves.",
		a.newGapListCommand(), a.newGapShowCommand(), a.newGapAcknowledgeCommand(), a.newGapSuppressCommand(), a.newGapReopenCommand())
}

// printGap writes one gap with all there is to know.
func (a *app) printGap(g *apiv1.GapRecord) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"gap": {g}})
	}
	palette := a.palette(a.OutTerminal)
	a.say("%s  %s\n", palette.Paint(severityStyle(g.GetSeverity()), term.Safe(g.GetSeverity())), palette.Paint(term.Bold, term.Safe(g.GetMessage())))
	for _, f := range a.gapFields(g) {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], 12), term.Safe(f[1]))
		}
	}
	a.printEvidence(g)
	a.printHistory(g)
	return nil
}

func (a *app) gapFields(g *apiv1.GapRecord) [][2]string {
	now := a.now()
	fields := [][2]string{
		{"at", placeRange(g)},
		{"symbol", g.GetSymbol()},
		{"remedy", g.GetRemedy()},
		{"state", joinNonEmpty(", ", g.GetState(), g.GetResolution())},
		{"rule", joinNonEmpty(" version ", g.GetRule(), g.GetRuleVersion())},
		{"type", g.GetType()},
		{"confidence", g.GetConfidence()},
		{"detector", joinNonEmpty(" ", g.GetDetector(), g.GetDetectorVersion())},
		{"workspace", g.GetWorkspace()},
		{"suppressed", g.GetSuppressReason()},
	}
	if g.GetSuppressUntil() != nil {
		fields = append(fields, [2]string{"until", g.GetSuppressUntil().AsTime().Format("2006-01-02 15:04 MST")})
	}
	if g.GetFirstSeen() != nil {
		fields = append(fields, [2]string{"first seen", ago(now, g.GetFirstSeen())}, [2]string{"last seen", ago(now, g.GetLastSeen())})
	}
	if g.GetResolvedAt() != nil {
		fields = append(fields, [2]string{"resolved", ago(now, g.GetResolvedAt())})
	}
	return append(fields, [2]string{"id", g.GetId()}, [2]string{"fingerprint", g.GetFingerprint()})
}

func (a *app) printEvidence(g *apiv1.GapRecord) {
	if g.GetEvidence() == "" {
		return
	}
	a.say("\n")
	for i, line := range strings.Split(strings.TrimRight(term.SafeLines(g.GetEvidence()), "\n"), "\n") {
		if g.GetLine() > 0 {
			a.say("  %5d | %s\n", int(g.GetLine())+i, line)
		} else {
			a.say("  | %s\n", line)
		}
	}
}

func (a *app) printHistory(g *apiv1.GapRecord) {
	if len(g.GetHistory()) == 0 {
		return
	}
	a.say("\nhistory\n")
	for _, change := range g.GetHistory() {
		line := change.GetAt().AsTime().Format("2006-01-02 15:04:05") + "  " + joinNonEmpty(" → ", change.GetFrom(), change.GetTo())
		if change.GetBy() != "" {
			line += " by " + change.GetBy()
		}
		if change.GetReason() != "" {
			line += ": " + change.GetReason()
		}
		a.say("  %s\n", term.Safe(line))
	}
}

func placeRange(g *apiv1.GapRecord) string {
	at := place(g.GetPath(), g.GetLine())
	if g.GetLine() > 0 && g.GetEndLine() > g.GetLine() {
		at += fmt.Sprintf("-%d", g.GetEndLine())
	}
	return at
}

func joinNonEmpty(separator string, parts ...string) string {
	var kept []string
	for _, part := range parts {
		if part != "" {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, separator)
}
