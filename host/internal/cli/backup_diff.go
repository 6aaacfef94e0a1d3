package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type backupDiffOptions struct {
	*app
	req apiv1.DiffBackupRequest
	dir string
}

func (a *app) newBackupDiffCommand() *cobra.Command {
	o := &backupDiffOptions{app: a}
	cmd := &cobra.Command{
		Use:   "diff ID [PATH...]",
		Short: "Say what differs from a snapshot",
		Long: `Say what differs between a snapshot and its workspace as it is now, another directory, or a later snapshot. Exit
code 3 says that something does.`,
		Example:     "  sop backup diff 019cb000\n  sop backup diff 019cb000 docs --against 019cc000",
		Args:        arguments(1, maxBackupArguments, "the ID of a snapshot"),
		Annotations: exits("34567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.req.Id, o.req.Paths = args[0], rawPaths(args[1:])
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.req.Against, "against", "", "another, later snapshot, by `id`, instead of the workspace")
	flags.StringVar(&o.dir, "dir", "", "another `directory` instead of the workspace")
	flags.BoolVar(&o.req.Thorough, "thorough", false, "read all content of plugins that keep no hashes of it, instead of comparing size and time")
	return cmd
}

func (o *backupDiffOptions) run(ctx context.Context) error {
	if o.dir != "" && o.req.GetAgainst() != "" {
		return usagef("--against and --dir contradict each other")
	}
	ctx, cancel := o.bounded(ctx, backupTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	if o.dir != "" {
		o.req.Target = absolute(o.dir)
	}
	o.req.ProgressKey = o.watchable("")
	stop := o.showProgress(ctx, c, "comparing", o.req.GetProgressKey(), false)
	answer, err := c.backup().DiffBackup(ctx, connect.NewRequest(&o.req))
	stop()
	if err != nil {
		return err
	}
	d := answer.Msg.GetComparison()
	if o.json() {
		err = printJSON(o.Out, map[string]wire{"comparison": {d}})
	} else {
		o.printComparison(d)
	}
	if err == nil && d.GetDiffering() > 0 {
		err = exitError(exitPending)
	}
	return err
}

// printComparison lists what differs.
func (a *app) printComparison(d *apiv1.BackupComparison) {
	palette := a.palette(a.OutTerminal)
	for _, one := range d.GetDifferences() {
		line := term.Safe(string(one.GetPath()))
		if one.GetDetail() != "" {
			line += "  (" + term.Safe(one.GetDetail()) + ")"
		}
		a.say("%s %s\n", palette.Paint(differenceStyle(one.GetKind()), term.Pad(one.GetKind(), 8)), line)
	}
	if more := d.GetDiffering() - int64(len(d.GetDifferences())); more > 0 {
		a.say("and %d more\n", more)
	}
	if d.GetDiffering() == 0 {
		a.say("%s compared, nothing differs\n", count(d.GetCompared(), "path", "paths"))
	}
}

func differenceStyle(kind string) term.Style {
	switch kind {
	case "added":
		return term.Green
	case "missing", "unread":
		return term.Red
	}
	return term.Yellow
}
