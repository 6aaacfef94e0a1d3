//go:build !front

package cli

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
)

func (a *app) newSandboxCommand() *cobra.Command {
	return a.newGroup("sandbox", "Run commands in isolation", `Run commands in isolation, as the host runs generators and verification. A command sees a root that was built for it
and a copy-on-write view of a workspace; what it changed there is shown, and nothing outside is touched.`,
		a.newSandboxRunCommand(), a.newSandboxGenerateCommand(), a.newSandboxProbeCommand(), a.newSandboxProfilesCommand())
}

func (a *app) newSandboxProbeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "probe", Short: "Say which levels of isolation this machine allows",
		Long: `Run a small command at every level and say which of them work here, for this user, and what each profile gets. A
level that does not work is named with the step that failed and the system's error. Exit 3 when a profile gets nothing.`,
		Example: "  sop sandbox probe\n  sop sandbox probe -o json | jq .levels",
		Args:    noArguments, Annotations: exits("3"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.sandboxProbe(cmd.Context()) },
	}
}

func (a *app) newSandboxProfilesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "profiles", Short: "List the sandbox profiles and their limits",
		Long:    `List the profiles of the configuration, and the default one, which is in force where no other is named.`,
		Example: "  sop sandbox profiles\n  sop sandbox profiles -o json",
		Args:    noArguments, Annotations: exits(""),
		RunE: func(*cobra.Command, []string) error { return a.sandboxProfiles() },
	}
}

// optionalConfig is the configuration, or "" where there is none and none was
// named.
func (a *app) optionalConfig() string {
	path := a.configPath()
	if a.global.config != "" || a.env("SOP_CONFIG") != "" {
		return path
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() && len(configFiles(path)) == 0 {
		return ""
	}
	return path
}

func (a *app) sandboxProbe(ctx context.Context) error {
	ctx, cancel := a.bounded(ctx, time.Minute)
	defer cancel()
	probe, err := a.engine.Sandbox.Probe(ctx, a.optionalConfig(), a.pluginsDir())
	if err != nil {
		return here(err)
	}
	refused := false
	for _, p := range probe.Profiles {
		refused = refused || p.Gets == ""
	}
	if a.json() {
		err = printJSON(a.Out, probe)
	} else {
		err = a.printProbe(probe)
	}
	if err == nil && refused {
		return exitError(exitPending)
	}
	return err
}

func (a *app) printProbe(probe *startup.SandboxProbe) error {
	levels := a.table(2, "LEVEL", "WORKS", "WHY NOT")
	for _, l := range probe.Levels {
		works, why := term.Styled(term.Green, "yes"), "-"
		if l.Refusal != nil {
			works, why = term.Styled(term.Red, "no"), l.Refusal.String()
		}
		levels.Row(term.Text(string(l.Level)), works, term.Text(why))
	}
	profiles := a.table(3, "PROFILE", "WANTS", "GETS", "WHY NOT")
	for _, p := range probe.Profiles {
		profiles.Row(term.Text(p.Name), term.Text(p.Wants), term.Text(orDash(p.Gets)), term.Text(orDash(p.Why)))
	}
	if _, err := levels.WriteTo(a.Out); err != nil {
		return err
	}
	a.say("\n")
	_, err := profiles.WriteTo(a.Out)
	return err
}

func (a *app) sandboxProfiles() error {
	profiles, err := a.engine.Sandbox.Profiles(a.optionalConfig(), a.pluginsDir())
	if err != nil {
		return here(err)
	}
	if a.json() {
		return printJSON(a.Out, map[string]any{"profiles": profiles})
	}
	t := a.table(8, "NAME", "LEVEL", "WALL", "MEMORY", "PIDS", "DISK", "OUTPUT", "CACHES", "ALSO READS")
	for _, p := range profiles {
		l, caches := p.Limits, make([]string, len(p.Caches))
		for i, c := range p.Caches {
			caches[i] = c.Name
		}
		t.Row(term.Text(p.Name), term.Text(string(p.Level)), term.Text(l.Wall.String()), term.Text(mebibytes(l.MemoryBytes)),
			term.Text(strconv.FormatInt(l.Pids, 10)), term.Text(mebibytes(l.DiskBytes)), term.Text(mebibytes(l.OutputBytes)),
			term.Text(orDash(strings.Join(caches, " "))), term.Text(orDash(strings.Join(p.ReadOnly, " "))))
	}
	_, err = t.WriteTo(a.Out)
	return err
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%.4gMiB", float64(bytes)/(1<<20)) }
