package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func (a *app) newPluginCommand() *cobra.Command {
	return a.newGroup("plugin", "Look at plugins, lock and restart them",
		"Plugins do the looking, generating, saving and reasoning, each in its own process. The configuration names them;\nthe lock file beside it holds the checksums that they must have.",
		a.newPluginListCommand(), a.newPluginShowCommand(), a.newPluginLockCommand(), a.newReloadCommand(), a.newPluginRestartCommand())
}

// printPlugin writes one plugin with all there is to know.
func (a *app) printPlugin(p *apiv1.PluginStatus) error {
	if a.json() {
		return printJSON(a.Out, map[string]wire{"plugin": {p}})
	}
	palette := a.palette(a.OutTerminal)
	a.say("%s  %s\n", palette.Paint(term.Bold, term.Safe(p.GetId())), palette.Paint(stateStyle(p.GetState()), term.Safe(p.GetState())))
	for _, f := range a.pluginFields(p) {
		if f[1] != "" {
			a.say("  %s %s\n", term.Pad(f[0], 14), term.Safe(f[1]))
		}
	}
	return nil
}

func (a *app) pluginFields(p *apiv1.PluginStatus) [][2]string {
	fields := [][2]string{
		{"summary", p.GetSummary()},
		{"version", p.GetVersion()},
		{"since", ago(a.now(), p.GetSince())},
		{"generation", fmt.Sprint(p.GetGeneration())},
		{"pid", pidOf(p)},
		{"restarts", fmt.Sprint(p.GetRestarts())},
		{"command", p.GetCommand()},
		{"hash", p.GetHash()},
		{"containment", p.GetContainment()},
		{"sandbox", sandboxText(p)},
		{"cgroup", cgroupText(p)},
		{"limits", limitsText(p.GetLimits())},
		{"uses", usageText(p.GetUsage())},
		{"calls", fmt.Sprintf("%d (%d failed, %d in flight, %s on average)", p.GetCalls(), p.GetFailures(), p.GetInFlight(), took(p.GetMeanCall().AsDuration()))},
	}
	if p.GetDroppedLogLines() > 0 {
		fields = append(fields, [2]string{"dropped logs", count(p.GetDroppedLogLines(), "line", "lines")})
	}
	for _, hit := range limitsHit(p.GetUsage()) {
		fields = append(fields, [2]string{"limit hit", hit})
	}
	if e := p.GetLastError(); e != nil {
		fields = append(fields, [2]string{"last error", joinNonEmpty(": ", e.GetReason(), e.GetMessage())},
			[2]string{"remedy", e.GetRemedy()})
		if e.GetAt() != nil {
			fields = append(fields, [2]string{"failed", ago(a.now(), e.GetAt())})
		}
	}
	if p.GetRetryAt() != nil {
		fields = append(fields, [2]string{"next attempt", "in " + age(p.GetRetryAt().AsTime().Sub(a.now()))})
	}
	return fields
}

func sandboxText(p *apiv1.PluginStatus) string {
	if p.GetSandboxProfile() == "" {
		return p.GetSandbox()
	}
	return fmt.Sprintf("%s, profile %s, landlock %d", p.GetSandbox(), p.GetSandboxProfile(), p.GetLandlockAbi())
}

func pidOf(p *apiv1.PluginStatus) string {
	if p.GetPid() == 0 {
		return "-"
	}
	return fmt.Sprint(p.GetPid())
}
