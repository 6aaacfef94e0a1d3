package cli

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type backupVerifyOptions struct {
	*app
	req apiv1.VerifyBackupsRequest
}

func (a *app) newBackupVerifyCommand() *cobra.Command {
	o := &backupVerifyOptions{app: a}
	cmd := &cobra.Command{
		Use:   "verify [ID...]",
		Short: "Find out whether snapshots can still be restored",
		Long: `Have a backup plugin read its snapshots back, and compare what it has with what the host recorded when they were made.
Exit code 1 says that something is lost or damaged.`,
		Example:     "  sop backup verify\n  sop backup verify --data --plugin kopia\n  sop backup verify 019cb000 --data",
		Args:        cobra.ArbitraryArgs,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.req.Ids = args
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.req.Plugin, "plugin", "", "the backup plugin of this `name` (default files, or the only one)")
	cmd.Flags().BoolVar(&o.req.Data, "data", false, "read every byte, and not only the structure")
	return cmd
}

func (o *backupVerifyOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, backupTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	stream, err := c.backup().VerifyBackups(ctx, connect.NewRequest(&o.req))
	if err != nil {
		return err
	}
	var v *apiv1.BackupVerification
	for stream.Receive() {
		if r := stream.Msg().GetResult(); r != nil {
			v = r
		} else if o.ErrTerminal && !o.json() {
			o.note("\r\x1b[K%s", progressLine("verifying", stream.Msg().GetWork(), o.width()))
		}
	}
	if o.ErrTerminal && !o.json() {
		o.note("\r\x1b[K")
	}
	if err := errors.Join(stream.Err(), stream.Close()); err != nil {
		return err
	}
	if o.json() {
		err = printJSON(o.Out, map[string]wire{"verification": {v}})
	} else {
		o.print(v)
	}
	if err == nil && !v.GetIntact() {
		err = exitError(exitFailed)
	}
	return err
}

// print says what was found.
func (o *backupVerifyOptions) print(v *apiv1.BackupVerification) {
	palette := o.palette(o.OutTerminal)
	how := "structure"
	if v.GetData() {
		how = "every byte"
	}
	if v.GetIntact() {
		o.say("%s: %s in %s, %s of %s\n", palette.Paint(term.Green, "intact"), count(v.GetSnapshots(), "snapshot", "snapshots"),
			term.Safe(v.GetPlugin()), how, count(v.GetObjects(), "object", "objects"))
		return
	}
	o.say("%s: not every snapshot in %s can be restored\n", palette.Paint(term.BoldRed, "damaged"), term.Safe(v.GetPlugin()))
	for _, l := range v.GetLost() {
		o.say("! snapshot %s: %s\n", term.Safe(l.GetId()), term.Safe(l.GetMessage()))
	}
	for _, d := range v.GetDamaged() {
		o.say("! %s: %s\n", term.Safe(d.GetName()), term.Safe(d.GetMessage()))
	}
	if more := v.GetDamagedTotal() - int64(len(v.GetDamaged())); more > 0 {
		o.say("! and %d more pieces of the repository\n", more)
	}
	o.printPathFailures("cannot be restored", v.GetFailures(), v.GetFailed())
}
