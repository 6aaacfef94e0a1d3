package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type backupCreateOptions struct {
	*app
	change
	req apiv1.CreateBackupRequest
}

func (a *app) newBackupCreateCommand() *cobra.Command {
	o := &backupCreateOptions{app: a}
	cmd := &cobra.Command{
		Use:   "create WORKSPACE [PATH...] | --state",
		Short: "Save a workspace, paths of it, or the host's own state",
		Long: `Save a workspace, or PATHs relative to it, or with --state the host's own state: a consistent copy of its database,
its keys and its configuration. When the command ends well the snapshot is on the disk. Exit code 3 says that some
paths could not be saved; the rest was.`,
		Example:     "  sop backup create main\n  sop backup create main docs README.md\n  sop backup create --state --plugin kopia",
		Args:        cobra.ArbitraryArgs,
		Annotations: exits("34567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.req.GetState() == (len(args) > 0) {
				return usagef("name a WORKSPACE, or give --state").WithRemedy("usage: %s", cmd.UseLine())
			}
			if len(args) > 0 {
				o.req.Workspace, o.req.Paths = args[0], rawPaths(args[1:])
			}
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&o.req.State, "state", false, "save the host's own state")
	cmd.Flags().StringVar(&o.req.Plugin, "plugin", "", "with the backup plugin of this `name` (default files, or the only one)")
	o.addChange(cmd)
	return cmd
}

func (o *backupCreateOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, backupTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.req.ValidateOnly, o.req.IdempotencyKey = o.check, o.watchable(o.key)
	stop := o.showProgress(ctx, c, "saving", o.req.GetIdempotencyKey(), o.check)
	answer, err := c.backup().CreateBackup(ctx, connect.NewRequest(&o.req))
	stop()
	if err != nil {
		return err
	}
	if o.check {
		return o.would("it would be saved")
	}
	b := answer.Msg.GetBackup()
	if o.json() {
		err = printJSON(o.Out, map[string]wire{"backup": {b}})
	} else {
		o.printBackup(b)
	}
	if err == nil && b.GetFailed() > 0 {
		err = exitError(exitPending)
	}
	return err
}
