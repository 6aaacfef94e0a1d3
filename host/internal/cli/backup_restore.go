package cli

import (
	"bufio"
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type backupRestoreOptions struct {
	*app
	change
	req apiv1.RestoreBackupRequest
	to  string
	yes bool
}

func (a *app) newBackupRestoreCommand() *cobra.Command {
	o := &backupRestoreOptions{app: a}
	cmd := &cobra.Command{
		Use:   "restore ID [PATH...]",
		Short: "Write a snapshot, or paths of it, to a directory",
		Long: `Write a snapshot, or PATHs of it, beneath the directory --to, and nowhere else; or with --in-place where it was made, which
is asked about first. Without --overwrite, what exists is left as it is. Exit code 1 says that paths were not restored.`,
		Example: `  sop backup restore 019cb000 --to /tmp/look
  sop backup restore 019cb000 docs/api.md --in-place --overwrite --dry-run`,
		Args:        arguments(1, maxBackupArguments, "the ID of a snapshot"),
		Annotations: exits("34567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.req.Id, o.req.Paths = args[0], rawPaths(args[1:])
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.to, "to", "", "a `directory`, which is made if only it is missing")
	flags.BoolVar(&o.req.InPlace, "in-place", false, "where it was made; together with --to, a directory in a workspace")
	flags.BoolVar(&o.req.Overwrite, "overwrite", false, "replace what is in the way, whatever its type")
	flags.BoolVar(&o.check, "dry-run", false, "as --check: change nothing, and say what would be")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask before a workspace is changed")
	o.addChange(cmd)
	return cmd
}

func (o *backupRestoreOptions) run(ctx context.Context) error {
	if o.to == "" && !o.req.GetInPlace() {
		return usagef("it is not said where to restore to").WithRemedy("give --to DIRECTORY, or --in-place")
	}
	if o.to != "" {
		o.req.Target = absolute(o.to)
	}
	ctx, cancel := o.bounded(ctx, backupTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	if o.check {
		return o.dryRun(ctx, c)
	}
	if o.req.GetInPlace() && !o.yes {
		if err := o.confirm(ctx, c); err != nil {
			return err
		}
	}
	o.req.IdempotencyKey = o.watchable(o.key)
	stop := o.showProgress(ctx, c, "restoring", o.req.GetIdempotencyKey(), false)
	answer, err := c.backup().RestoreBackup(ctx, connect.NewRequest(&o.req))
	stop()
	if err != nil {
		return err
	}
	r := answer.Msg
	if o.json() {
		err = printJSON(o.Out, wire{r})
	} else {
		o.say("restored %s, %s, to %s\n", count(r.GetFiles(), "file", "files"), sizeText(r.GetBytes()), term.Safe(r.GetTarget()))
		o.printPathFailures("not restored", r.GetFailures(), r.GetFailed())
		o.printPathFailures("restored with less", r.GetWarnings(), r.GetWarned())
	}
	if err == nil && r.GetFailed() > 0 {
		err = exitError(exitFailed)
	}
	return err
}

// ask has the host say what would be changed.
func (o *backupRestoreOptions) ask(ctx context.Context, c *client) (*apiv1.RestoreBackupResponse, error) {
	req := &apiv1.RestoreBackupRequest{
		Id: o.req.GetId(), Target: o.req.GetTarget(), InPlace: o.req.GetInPlace(), Paths: o.req.GetPaths(), Overwrite: o.req.GetOverwrite(), ValidateOnly: true,
	}
	answer, err := c.backup().RestoreBackup(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}

// dryRun says what would be changed.
func (o *backupRestoreOptions) dryRun(ctx context.Context, c *client) error {
	r, err := o.ask(ctx, c)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, wire{r})
	}
	o.printComparison(r.GetChanges())
	o.note("%s\n", o.consequence(r))
	return nil
}

// consequence says in one sentence what a restore would do.
func (o *backupRestoreOptions) consequence(r *apiv1.RestoreBackupResponse) string {
	var made, replaced int64
	for _, d := range r.GetChanges().GetDifferences() {
		switch d.GetKind() {
		case "missing":
			made++
		case "added": // left alone
		default:
			replaced++
		}
	}
	verb := "left as they are, since --overwrite is not given"
	if o.req.GetOverwrite() {
		verb = "replaced"
	}
	return count(made, "path would be made", "paths would be made") + ", " + count(replaced, "that differs", "that differ") + " would be " + verb
}

// confirm asks the person at the terminal.
func (o *backupRestoreOptions) confirm(ctx context.Context, c *client) error {
	if !o.ErrTerminal {
		return usagef("--in-place changes a workspace").WithRemedy("look with --dry-run, and give --yes")
	}
	r, err := o.ask(ctx, c)
	if err != nil {
		return err
	}
	o.note("in %s: %s\nrestore? [y/N] ", term.Safe(r.GetTarget()), o.consequence(r))
	line, _ := bufio.NewReader(o.In).ReadString('\n') // nothing is no
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return nil
	}
	o.note("nothing was changed\n")
	return exitError(exitFailed)
}
