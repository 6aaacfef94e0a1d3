package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func (a *app) newComponentCommand() *cobra.Command {
	return a.newGroup("component", "Look at components, start, stop and restart them",
		"Components are the commands that the configuration has the host bring online, in the order of their dependencies, and\nsupervise.",
		a.newComponentListCommand(), a.newComponentShowCommand(), a.newComponentStartCommand(), a.newComponentStopCommand(),
		a.newComponentRestartCommand(), a.newComponentLogsCommand())
}

// printComponent writes one component with all there is to know.
func (a *app) printComponent(c *apiv1.ComponentStatus) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"component": {c}})
	}
	palette := a.palette(a.OutTerminal)
	a.say("%s  %s\n", palette.Paint(term.Bold, term.Safe(c.GetName())), palette.Paint(stateStyle(c.GetState()), term.Safe(c.GetState())))
	for _, f := range a.componentFields(c) {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], 14), term.Safe(f[1]))
		}
	}
	return nil
}

func (a *app) componentFields(c *apiv1.ComponentStatus) [][2]string {
	fields := [][2]string{
		{"waits", c.GetDetail()},
		{"since", ago(a.now(), c.GetSince())},
		{"command", c.GetCommand()},
		{"process", componentProcess(c)},
		{"restarts", fmt.Sprint(c.GetRestarts())},
		{"activation", componentActivation(c)},
		{"depends on", dependencies(c)},
		{"readiness", a.probeText(c)},
		{"survives", map[string]string{"adopt": "a killed host: the next one takes it back", "restart": "no: the next host starts it anew"}[c.GetSurvive()]},
		{"sandbox", componentSandbox(c.GetSandbox())},
		{"cgroup", joinNonEmpty("; ", c.GetCgroup(), c.GetCgroupRefused())},
		{"limits", limitsText(&apiv1.PluginLimits{Memory: c.GetLimits().GetMemory(), Pids: c.GetLimits().GetPids(), Cpus: c.GetLimits().GetCpus()})},
		{"uses", usageText(&apiv1.PluginUsage{
			Memory: c.GetUsage().GetMemory(), MemoryPeak: c.GetUsage().GetMemoryPeak(), Pids: c.GetUsage().GetPids(), PidsPeak: c.GetUsage().GetPids(), Cpu: c.GetUsage().GetCpu(),
		})},
		{"output", fmt.Sprintf("%s, %d dropped", count(c.GetLogLines(), "line", "lines"), c.GetDroppedLogLines())},
	}
	if e := c.GetLastError(); e != nil {
		fields = append(fields, [2]string{"last error", joinNonEmpty(": ", e.GetReason(), e.GetMessage())}, [2]string{"remedy", e.GetRemedy()})
		if e.GetAt() != nil {
			fields = append(fields, [2]string{"failed", ago(a.now(), e.GetAt())})
		}
	}
	if c.GetRetryAt() != nil && c.GetRetryAt().AsTime().After(a.now()) {
		fields = append(fields, [2]string{"next attempt", "in " + age(c.GetRetryAt().AsTime().Sub(a.now()))})
	}
	return fields
}

func componentProcess(c *apiv1.ComponentStatus) string {
	if c.GetPid() == 0 {
		return "none"
	}
	text := fmt.Sprintf("pid %d, the %d. since the host started", c.GetPid(), c.GetInstance())
	if c.GetAdopted() {
		text += ", taken back from an earlier host"
	}
	return text
}

func componentActivation(c *apiv1.ComponentStatus) string {
	if c.GetActivation() != "on_demand" {
		if c.GetRequired() {
			return "always, required"
		}
		return "always"
	}
	return fmt.Sprintf("on demand, %s now", count(int64(c.GetUsers()), "user", "users"))
}

func dependencies(c *apiv1.ComponentStatus) string {
	text := strings.Join(c.GetDependsOn(), ", ")
	if text != "" && c.GetRequiresReady() {
		text += " (must stay ready)"
	}
	return text
}

func (a *app) probeText(c *apiv1.ComponentStatus) string {
	p := c.GetLastProbe()
	if p == nil {
		return c.GetReadiness()
	}
	verdict := "passed"
	if !p.GetOk() {
		verdict = "failed: " + p.GetError()
	}
	return fmt.Sprintf("%s, last probe %s in %s, %s", c.GetReadiness(), ago(a.now(), p.GetAt()), took(p.GetTook().AsDuration()), verdict)
}

func componentSandbox(s *apiv1.ComponentSandbox) string {
	if s == nil {
		return "none"
	}
	return joinNonEmpty(", ", "profile "+s.GetProfile(), s.GetLevel(), strings.Join(s.GetLayers(), ", "), s.GetRefused())
}

// componentTable lists components.
func (a *app) componentTable(all []*apiv1.ComponentStatus) *term.Table {
	table := a.table(6, "COMPONENT", "STATE", "PID", "SINCE", "RESTARTS", "PROBE", "NOTE")
	table.Whole = []int{0}
	for _, c := range all {
		pid := "-"
		if c.GetPid() != 0 {
			pid = fmt.Sprint(c.GetPid())
		}
		table.Row(term.Text(c.GetName()), term.Styled(stateStyle(c.GetState()), c.GetState()), term.Text(pid),
			term.Text(since(a.now(), c.GetSince())), term.Text(fmt.Sprint(c.GetRestarts())), term.Text(a.lastProbe(c.GetLastProbe())), term.Text(componentNote(c)))
	}
	return table
}

// lastProbe says what the last probe found, and when.
func (a *app) lastProbe(p *apiv1.ComponentProbe) string {
	switch {
	case p.GetAt() == nil:
		return "-"
	case p.GetOk():
		return "ok " + ago(a.now(), p.GetAt())
	}
	return "failed " + ago(a.now(), p.GetAt())
}

func componentNote(c *apiv1.ComponentStatus) string {
	switch {
	case c.GetState() != "ready" && c.GetDetail() != "":
		return c.GetDetail()
	case c.GetState() != "ready" && c.GetLastError() != nil:
		return c.GetLastError().GetMessage()
	case c.GetActivation() == "on_demand":
		return "on demand"
	}
	return "-"
}

// statusComponents writes the part of the status about components.
func (a *app) statusComponents(b *strings.Builder, all []*apiv1.ComponentStatus) error {
	if len(all) == 0 {
		return nil
	}
	b.WriteByte('\n')
	if _, err := a.componentTable(all).WriteTo(b); err != nil {
		return err
	}
	palette := a.palette(a.OutTerminal)
	for _, c := range all {
		if e := c.GetLastError(); e != nil && c.GetState() != "ready" {
			fmt.Fprintf(b, "%s %s: %s\n", palette.Paint(term.Red, "!"), term.Safe(c.GetName()), term.Safe(e.GetMessage()))
			if e.GetRemedy() != "" {
				fmt.Fprintf(b, "  %s %s\n", palette.Paint(term.BoldCyan, "remedy:"), term.Safe(e.GetRemedy()))
			}
		}
	}
	return nil
}

// componentChanged shows a component after a change.
func (a *app) componentChanged(c *apiv1.ComponentStatus) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"component": {c}})
	}
	pid := ""
	if c.GetPid() != 0 {
		pid = fmt.Sprintf(", pid %d", c.GetPid())
	}
	a.say("%s is %s%s\n", term.Safe(c.GetName()), term.Safe(c.GetState()), pid)
	return nil
}
