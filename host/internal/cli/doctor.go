//go:build !front

package cli

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/doctor"
	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type doctorOptions struct{ *app }

func (a *app) newDoctorCommand() *cobra.Command {
	o := doctorOptions{a}
	return &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong, and what to do about it",
		Long: `Examine a host on this machine, whether it runs or not: configuration, plugins against the lock file, permissions, disk,
clock, database, audit log, backups and isolation. Nothing is changed, and a host that runs is not disturbed.
Each check has its time; --timeout sets that of reading database and audit log. Exit 3 when something failed.`,
		Example:     "  sop doctor\n  sop doctor -o json | jq '.checks[] | select(.state != \"ok\")'\n  sop doctor --timeout 1h",
		Args:        noArguments,
		Annotations: exits("3"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
}

func (o doctorOptions) run(ctx context.Context) error {
	if o.isRemote() {
		return usagef("sop doctor examines this machine, not one at an address").WithRemedy("run it where the host runs, without --address and $SOP_ADDRESS")
	}
	c := o.connect()
	defer c.Close()
	report := o.engine.Doctor(ctx, startup.Examination{
		ConfigPath: o.configPath(), PluginsDir: o.pluginsDir(), DataDir: o.dataDir(), Version: o.version.Version, Limit: o.global.timeout,
		Host: func(ctx context.Context) (*apiv1.Status, bool, error) {
			answer, err := c.host().GetStatus(ctx, connect.NewRequest(&apiv1.GetStatusRequest{}))
			if err != nil {
				return nil, !unreachable(err), asError(err)
			}
			return answer.Msg.GetStatus(), true, nil
		},
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.json() {
		if err := printJSON(o.Out, report); err != nil {
			return err
		}
	} else {
		o.print(report)
	}
	if report.State == doctor.Failed {
		return exitError(exitPending)
	}
	return nil
}

// print writes one line for each finding, and beneath what is not well the
// remedy.
func (o doctorOptions) print(r *doctor.Report) {
	palette := o.palette(o.OutTerminal)
	styles := map[doctor.State]term.Style{doctor.OK: term.Green, doctor.Warning: term.Yellow, doctor.Failed: term.BoldRed}
	name := 0
	for _, c := range r.Checks {
		name = max(name, len(c.Check))
	}
	for _, c := range r.Checks {
		title := c.Check
		for _, f := range c.Findings {
			o.say("%s  %s  %s\n", palette.Paint(term.Bold, pad(title, name)), palette.Paint(styles[f.State], pad(string(f.State), len(doctor.Warning))), term.Safe(f.Message))
			if f.Remedy != "" && f.State != doctor.OK {
				o.say("%s%s %s\n", strings.Repeat(" ", name+len(doctor.Warning)+4), palette.Paint(term.BoldCyan, "remedy:"), term.Safe(f.Remedy))
			}
			title = ""
		}
	}
	o.say("\n%s\n", verdict(r))
}

func pad(s string, width int) string { return s + strings.Repeat(" ", max(0, width-len(s))) }

// verdict counts what was found.
func verdict(r *doctor.Report) string {
	warnings, failed := r.Count(doctor.Warning), r.Count(doctor.Failed)
	if warnings+failed == 0 {
		return fmt.Sprintf("all is well: %s", count(int64(r.Count(doctor.OK)), "finding", "findings"))
	}
	return fmt.Sprintf("%d ok, %s, %d failed", r.Count(doctor.OK), count(int64(warnings), "warning", "warnings"), failed)
}
