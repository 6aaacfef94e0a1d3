package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// statusResources writes what the host uses and the machine has. What is none of
// what there must be some of could not be measured.
func (a *app) statusResources(b *strings.Builder, r *apiv1.ResourceUse) {
	if r == nil {
		return
	}
	h, m := r.GetHost(), r.GetMachine()
	b.WriteString("      ")
	if h.GetMemory() > 0 {
		fmt.Fprintf(b, "uses %s, %s, %s", processorText(h.GetCpuPercent()), sizeText(h.GetMemory()),
			measured(int64(h.GetOpenFiles()), "open files", count(int64(h.GetOpenFiles()), "open file", "open files")))
	} else {
		b.WriteString("what it uses could not be measured")
	}
	if s := r.GetStarted(); s.GetProcesses() > 0 {
		fmt.Fprintf(b, "; %s that it started: %s, %s", count(int64(s.GetProcesses()), "process", "processes"), processorText(s.GetCpuPercent()), sizeText(s.GetMemory()))
	}
	room := func(available, total int64, word string) string {
		return measured(total, "", fmt.Sprintf("%s of %s %s", sizeText(available), sizeText(total), word))
	}
	fmt.Fprintf(b, "\n      machine %.0f%% of %s, load %.2f, memory %s, disk %s, %s\n",
		m.GetCpuPercent(), count(int64(m.GetCpus()), "processor", "processors"), m.GetLoad1(), room(m.GetMemoryAvailable(), m.GetMemoryTotal(), "available"),
		room(m.GetDiskFree(), m.GetDiskTotal(), "free"), measured(int64(m.GetProcesses()), "processes", count(int64(m.GetProcesses()), "process", "processes")))
}

// measured returns text, or that what it is about could not be measured where there
// is none.
func measured(n int64, what, text string) string {
	if n > 0 {
		return text
	}
	return joinNonEmpty(" ", what, "unknown")
}

func processorText(percent float64) string { return fmt.Sprintf("%.1f%% of a processor", percent) }

// statusProtocols writes how the protocols stand; nothing where there are none.
func (a *app) statusProtocols(b *strings.Builder, all []*apiv1.ProtocolStatus) error {
	if len(all) == 0 {
		return nil
	}
	b.WriteByte('\n')
	table := a.table(7, "PROTOCOL", "STATE", "MODE", "SINCE", "CALLS", "FAILED", "TEST", "DETAIL")
	table.Whole = []int{0}
	for _, p := range all {
		table.Row(term.Text(p.GetName()), term.Styled(protocolStyle(p.GetState()), p.GetState()), term.Text(p.GetMode()), term.Text(since(a.now(), p.GetSince())),
			term.Text(fmt.Sprint(p.GetCalls())), term.Text(fmt.Sprint(p.GetFailures())), term.Text(orDash(p.GetSelfTest())), term.Text(orDash(firstOf(p.GetError(), p.GetDetail()))))
	}
	_, err := table.WriteTo(b)
	return err
}

// statusCounts writes how many tasks and tokens there are, and how the audit log
// and the backups stand.
func (a *app) statusCounts(b *strings.Builder, s *apiv1.Status) {
	var tasks, tokens []string
	for _, t := range s.GetTasks() {
		tasks = append(tasks, fmt.Sprintf("%d %s", t.GetTasks(), term.Safe(strings.ReplaceAll(t.GetState(), "_", " "))))
	}
	if len(tasks) > 0 {
		fmt.Fprintf(b, "tasks  %s\n", strings.Join(tasks, ", "))
	}
	all := slices.Clone(s.GetTokens())
	slices.SortStableFunc(all, func(x, y *apiv1.TokenCount) int { return strings.Compare(x.GetType(), y.GetType()) })
	for _, t := range all {
		tokens = append(tokens, fmt.Sprintf("%d %s %s", t.GetTokens(), term.Safe(t.GetState()), term.Safe(t.GetType())))
	}
	if len(tokens) > 0 {
		fmt.Fprintf(b, "tokens  %s\n", strings.Join(tokens, ", "))
	}
	if s.GetLastBackup() != nil {
		fmt.Fprintf(b, "last backup  %s\n", ago(a.now(), s.GetLastBackup()))
	}
	if s.GetAudit() != nil {
		a.statusAudit(b, s.GetAudit())
	}
}

func (a *app) statusAudit(b *strings.Builder, s *apiv1.AuditStanding) {
	palette := a.palette(a.OutTerminal)
	fmt.Fprintf(b, "audit  %s, ", count(s.GetRecords(), "record", "records"))
	switch {
	case s.GetVerifiedAt() == nil:
		b.WriteString("not verified yet\n")
	case s.GetVerified() == "ok":
		fmt.Fprintf(b, "%s %s\n", palette.Paint(term.Green, "intact"), ago(a.now(), s.GetVerifiedAt()))
	default:
		fmt.Fprintf(b, "%s %s\n", palette.Paint(term.BoldRed, map[bool]string{true: "not intact", false: "could not be read"}[s.GetVerified() == "fault"]), ago(a.now(), s.GetVerifiedAt()))
	}
}
