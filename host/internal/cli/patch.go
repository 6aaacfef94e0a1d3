package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// patchStates are the states of patches, as the API names them.
var patchStates = []string{
	"proposed", "verifying", "verified", "rejected", "approved", "denied", "integrating", "integrated", "rolled_back", "superseded",
}

func (a *app) newPatchCommand() *cobra.Command {
	return a.newGroup("patch", "Look at proposed changes and decide on them",
		"A patch is a proposed change: verified, then approved or denied, then integrated, then perhaps rolled back. Its content never\nchanges; an approval names the hash of exactly that content.",
		a.newPatchListCommand(), a.newPatchShowCommand(), a.newPatchApproveCommand(), a.newPatchDenyCommand(), a.newPatchRollbackCommand())
}

// patchArguments is the argument of commands about one patch.
var patchArguments = arguments(1, 1, "the ID of a patch")

const patchID = "ID is its id, or an unambiguous beginning of it."

func patchStateStyle(state string) term.Style {
	switch state {
	case "verified":
		return term.Yellow // somebody has to decide
	case "approved", "integrated":
		return term.Green
	case "rejected", "denied", "rolled_back":
		return term.Red
	}
	return term.Plain
}

// printPatch writes one patch with all there is to know, and its changes.
func (a *app) printPatch(p *apiv1.PatchRecord, diff string) {
	palette := a.palette(a.OutTerminal)
	a.say("%s  %s\n", palette.Paint(patchStateStyle(p.GetState()), term.Safe(p.GetState())), palette.Paint(term.Bold, term.Safe(joinNonEmpty("", p.GetTitle()))))
	for _, f := range a.patchFields(p) {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], 12), term.Safe(f[1]))
		}
	}
	if len(p.GetRisks()) > 0 {
		a.say("  %s %s\n", term.Pad("risks", 12), palette.Paint(term.Red, term.Safe(strings.Join(p.GetRisks(), ", "))))
	}
	a.printPatchChanges(p)
	a.printRunEvidence(p.GetEvidence())
	a.printVerdict(p.GetVerdict())
	a.printPatchHistory(p)
	if diff != "" {
		a.say("\n")
		a.printDiff(diff)
	}
	if p.GetState() == "verified" {
		a.note("\napprove it with: sop patch approve %s\n", term.Safe(p.GetId()))
	}
}

func (a *app) patchFields(p *apiv1.PatchRecord) [][2]string {
	now := a.now()
	var by []string
	for _, one := range p.GetApprovals() {
		by = append(by, joinNonEmpty(": ", one.GetBy(), one.GetReason()))
	}
	consent := fmt.Sprintf("%d of %d", len(by), p.GetApprovalsNeeded())
	if p.GetApproval() == "auto" && p.GetApprovalsNeeded() == 0 {
		consent = "by rule, once it has passed verification"
	}
	fields := [][2]string{
		{"reason", p.GetReason()},
		{"id", p.GetId()},
		{"hash", p.GetHash()},
		{"workspace", p.GetWorkspace()},
		{"task", p.GetTask()},
		{"proposer", p.GetProposer()},
		{"size", fmt.Sprintf("%s, %s", count(int64(p.GetFiles()), "file", "files"), byteText(p.GetBytes()))},
		{"passed", yesNo(p.GetPassed())},
		{"approval", joinNonEmpty("; ", consent, strings.Join(by, "; "))},
		{"supersedes", p.GetSupersedes()},
		{"superseded by", p.GetSupersededBy()},
		{"went to", joinNonEmpty(" ", p.GetMode(), p.GetBranch(), p.GetCommit(), p.GetFile())},
		{"backup", p.GetBackup()},
		{"token", p.GetToken()},
		{"notes", strings.Join(p.GetNotes(), "; ")},
		{"proposed", ago(now, p.GetCreatedAt())},
	}
	if p.GetIntegratedAt() != nil {
		fields = append(fields, [2]string{"integrated", ago(now, p.GetIntegratedAt())})
	}
	return fields
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (a *app) printPatchChanges(p *apiv1.PatchRecord) {
	palette := a.palette(a.OutTerminal)
	a.say("\nchanges\n")
	for _, c := range p.GetChanges() {
		line := fmt.Sprintf("  %s %s", term.Pad(c.GetOp(), 8), term.Safe(c.GetPath()))
		if c.GetTarget() != "" {
			line += " → " + term.Safe(c.GetTarget())
		}
		if c.GetFlag() != "" {
			line += "  " + palette.Paint(term.Red, term.Safe(c.GetFlag()))
		}
		a.say("%s\n", line)
	}
}

// printDocument writes JSON in the form in which people read it.
func (a *app) printDocument(name, text string) {
	if text == "" {
		return
	}
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		return
	}
	pretty, err := json.MarshalIndent(value, "  ", "  ")
	if err != nil {
		return
	}
	const most = 40 // lines
	lines := strings.Split(string(pretty), "\n")
	a.say("\n%s\n  %s\n", name, term.SafeLines(strings.Join(lines[:min(len(lines), most)], "\n")))
	if len(lines) > most {
		a.say("  … %d more lines: -o json has all\n", len(lines)-most)
	}
}

func (a *app) printPatchHistory(p *apiv1.PatchRecord) {
	if len(p.GetHistory()) == 0 {
		return
	}
	a.say("\nhistory\n")
	for _, c := range p.GetHistory() {
		line := c.GetAt().AsTime().Format("2006-01-02 15:04:05") + "  " + c.GetAction()
		if c.GetBy() != "" {
			line += " by " + c.GetBy()
		}
		if c.GetReason() != "" {
			line += ": " + c.GetReason()
		}
		a.say("  %s\n", term.Safe(line))
	}
}

// printDiff writes a unified diff, in colours on a terminal.
func (a *app) printDiff(diff string) {
	palette := a.palette(a.OutTerminal)
	for line := range strings.Lines(diff) {
		a.say("%s\n", palette.Paint(diffStyle(line), term.SafeLines(strings.TrimSuffix(line, "\n"))))
	}
}

func diffStyle(line string) term.Style {
	switch {
	case strings.HasPrefix(line, "+++ "), strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "diff "):
		return term.Bold
	case strings.HasPrefix(line, "+"):
		return term.Green
	case strings.HasPrefix(line, "-"):
		return term.Red
	case strings.HasPrefix(line, "@@"):
		return term.Cyan
	}
	return term.Plain
}
