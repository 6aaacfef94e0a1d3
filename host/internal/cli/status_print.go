package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// printStatus writes a status for people.
func (a *app) printStatus(w io.Writer, s *apiv1.Status) error {
	var b strings.Builder
	a.statusHead(&b, s)
	a.statusResources(&b, s.GetResources())
	a.statusReload(&b, s.GetLastReload())
	if err := a.statusPlugins(&b, s.GetPlugins()); err != nil {
		return err
	}
	if err := a.statusComponents(&b, s.GetComponents()); err != nil {
		return err
	}
	if err := a.statusProtocols(&b, s.GetProtocols()); err != nil {
		return err
	}
	if err := a.statusWorkspaces(&b, s); err != nil {
		return err
	}
	if err := a.statusBackups(&b, s.GetBackups()); err != nil {
		return err
	}
	a.statusSandbox(&b, s.GetSandbox())
	fmt.Fprintf(&b, "\ngaps  %s", a.countsOf(s.GetGaps()))
	if n := s.GetGaps().GetSuppressed(); n > 0 {
		fmt.Fprintf(&b, "; %d suppressed", n)
	}
	if n := s.GetGaps().GetResolved(); n > 0 {
		fmt.Fprintf(&b, "; %d resolved", n)
	}
	b.WriteByte('\n')
	a.statusCounts(&b, s)
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) statusHead(b *strings.Builder, s *apiv1.Status) {
	palette := a.palette(a.OutTerminal)
	fmt.Fprintf(b, "host  %s, version %s, pid %d, up %s\n",
		palette.Paint(stateStyle(s.GetState()), term.Safe(s.GetState())), term.Safe(s.GetVersion()), s.GetPid(), since(a.now(), s.GetStartedAt()))
	fmt.Fprintf(b, "      config %s, data %s\n", term.Safe(s.GetConfigPath()), term.Safe(s.GetDataDir()))
	for _, reason := range s.GetReasons() {
		fmt.Fprintf(b, "      %s %s\n", palette.Paint(term.Red, "!"), term.Safe(reason))
	}
}

func (a *app) statusReload(b *strings.Builder, v *apiv1.ReloadVerdict) {
	if v == nil {
		return
	}
	palette := a.palette(a.OutTerminal)
	word := palette.Paint(term.Green, "ok")
	if !v.GetOk() {
		word = palette.Paint(term.Red, "refused")
	}
	fmt.Fprintf(b, "last reload  %s, %s, by %s", word, ago(a.now(), v.GetAt()), term.Safe(v.GetTrigger()))
	if n := pending(v.GetChanges()); n > 0 && v.GetOk() {
		fmt.Fprintf(b, ", %s", count(int64(n), "change", "changes"))
	}
	b.WriteByte('\n')
	for line := range strings.Lines(diagnosticsText(v.GetDiagnostics())) {
		if line != "\n" {
			b.WriteString("  ")
		}
		b.WriteString(line)
	}
}

func (a *app) statusPlugins(b *strings.Builder, plugins []*apiv1.PluginStatus) error {
	if len(plugins) == 0 {
		fmt.Fprintln(b, "\nno plugins are configured")
		return nil
	}
	b.WriteByte('\n')
	table := a.table(6, "PLUGIN", "STATE", "GEN", "PID", "SINCE", "RESTARTS", "LAST ERROR")
	table.Whole = []int{0}
	for _, p := range plugins {
		table.Row(term.Text(p.GetId()), term.Styled(stateStyle(p.GetState()), p.GetState()), term.Text(fmt.Sprint(p.GetGeneration())),
			term.Text(pidOf(p)), term.Text(since(a.now(), p.GetSince())), term.Text(fmt.Sprint(p.GetRestarts())),
			term.Text(a.lastError(p.GetLastError())))
	}
	if _, err := table.WriteTo(b); err != nil {
		return err
	}
	a.statusErrors(b, plugins)
	palette := a.palette(a.OutTerminal)
	for _, p := range plugins {
		for _, hit := range limitsHit(p.GetUsage()) {
			fmt.Fprintf(b, "%s %s: %s\n", palette.Paint(term.Red, "!"), term.Safe(p.GetId()), hit)
		}
	}
	return nil
}

// lastError names an error and when it was; statusErrors tells the rest.
func (a *app) lastError(e *apiv1.PluginError) string {
	switch {
	case e == nil:
		return "-"
	case e.GetAt() == nil:
		return e.GetReason()
	}
	return joinNonEmpty(", ", e.GetReason(), ago(a.now(), e.GetAt()))
}

// statusErrors says what went wrong with each plugin and what to do about it.
func (a *app) statusErrors(b *strings.Builder, plugins []*apiv1.PluginStatus) {
	palette := a.palette(a.OutTerminal)
	for _, p := range plugins {
		e := p.GetLastError()
		if e == nil {
			continue
		}
		mark, style := "!", term.Red
		if p.GetState() == "ready" {
			mark, style = "-", term.Faint // it has been got over
		}
		fmt.Fprintf(b, "%s %s: %s\n", palette.Paint(style, mark), term.Safe(p.GetId()), term.Safe(e.GetMessage()))
		if e.GetRemedy() != "" {
			fmt.Fprintf(b, "  %s %s\n", palette.Paint(term.BoldCyan, "remedy:"), term.Safe(e.GetRemedy()))
		}
		if p.GetRetryAt() != nil && p.GetRetryAt().AsTime().After(a.now()) {
			fmt.Fprintf(b, "  next attempt in %s\n", age(p.GetRetryAt().AsTime().Sub(a.now())))
		}
	}
}

func (a *app) statusWorkspaces(b *strings.Builder, s *apiv1.Status) error {
	workspaces := s.GetWorkspaces()
	if len(workspaces) == 0 && s.GetState() == stateStarting {
		fmt.Fprintln(b, "\nworkspaces are not governed yet")
		return nil
	}
	if len(workspaces) == 0 {
		fmt.Fprintln(b, "\nno workspaces are configured")
		return nil
	}
	b.WriteByte('\n')
	if _, err := a.workspaceTable(workspaces).WriteTo(b); err != nil {
		return err
	}
	for _, ws := range workspaces {
		a.scanCauses(b, ws)
	}
	return nil
}

// maxCauses is how many causes of an incomplete scan the status shows.
const maxCauses = 3

// scanCauses says why the last scan of a workspace is not complete.
func (a *app) scanCauses(b *strings.Builder, ws *apiv1.WorkspaceStatus) {
	scan := ws.GetLastScan()
	if scan == nil || scan.GetComplete() {
		return
	}
	palette := a.palette(a.OutTerminal)
	shown := 0
	for _, d := range scan.GetDiagnostics() {
		if d.GetRemedy() == "" || shown == maxCauses {
			continue
		}
		shown++
		fmt.Fprintf(b, "%s %s: %s\n", palette.Paint(term.Red, "!"), term.Safe(joinNonEmpty(", ", ws.GetName(), d.GetDetector())), term.Safe(d.GetMessage()))
		fmt.Fprintf(b, "  %s %s\n", palette.Paint(term.BoldCyan, "remedy:"), term.Safe(d.GetRemedy()))
	}
}

func (a *app) lastScan(scan *apiv1.ScanReport) string {
	if scan == nil {
		return "-"
	}
	text := ago(a.now(), scan.GetStartedAt())
	switch {
	case scan.GetError() != "":
		return text + ", failed: " + scan.GetError()
	case !scan.GetComplete():
		return text + ", incomplete"
	}
	return text
}

func openGaps(c *apiv1.GapCounts) int64 {
	return c.GetCritical() + c.GetHigh() + c.GetMedium() + c.GetLow() + c.GetInfo()
}
