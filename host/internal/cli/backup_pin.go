package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type backupPinOptions struct {
	*app
	change
	req apiv1.PinBackupRequest
}

func (a *app) newBackupPinCommand() *cobra.Command {
	o := &backupPinOptions{app: a}
	cmd := &cobra.Command{
		Use:         "pin ID",
		Short:       "Protect a snapshot from retention and deletion",
		Example:     "  sop backup pin 019cb000\n  sop backup pin 019cb000 --off",
		Args:        arguments(1, 1, "the ID of a snapshot"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.req.Id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&o.req.Off, "off", false, "lift the protection")
	o.addChange(cmd)
	return cmd
}

func (o *backupPinOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.req.ValidateOnly, o.req.IdempotencyKey = o.check, o.key
	answer, err := c.backup().PinBackup(ctx, connect.NewRequest(&o.req))
	if err != nil {
		return err
	}
	word := "pinned"
	if o.req.GetOff() {
		word = "unpinned"
	}
	if o.check {
		return o.would("the snapshot would be " + word)
	}
	if o.json() {
		return printJSON(o.Out, map[string]wire{"backup": {answer.Msg.GetBackup()}})
	}
	o.say("%s %s\n", word, term.Safe(answer.Msg.GetBackup().GetId()))
	return nil
}

type backupDeleteOptions struct {
	*app
	change
	req apiv1.DeleteBackupsRequest
}

func (a *app) newBackupDeleteCommand() *cobra.Command {
	o := &backupDeleteOptions{app: a}
	cmd := &cobra.Command{
		Use:         "delete ID...",
		Short:       "Forget snapshots",
		Long:        "Forget snapshots that are not pinned, also those that are lost. What was deleted cannot be restored.",
		Example:     "  sop backup delete 019cb000 019cb001\n  sop backup delete 019cb000 --check",
		Args:        arguments(1, maxBackupArguments, "the ID of a snapshot"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.req.Ids = args
			return o.run(cmd.Context())
		},
	}
	o.addChange(cmd)
	return cmd
}

func (o *backupDeleteOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.req.ValidateOnly, o.req.IdempotencyKey = o.check, o.key
	answer, err := c.backup().DeleteBackups(ctx, connect.NewRequest(&o.req))
	if err != nil {
		return err
	}
	return o.printDeleted(answer.Msg.GetBackups(), o.check)
}

// printDeleted lists what was deleted, or would be.
func (a *app) printDeleted(all []*apiv1.BackupRecord, check bool) error {
	if a.json() {
		return printJSON(a.Out, map[string][]wire{"backups": wires(all)})
	}
	verb := "deleted"
	if check {
		verb = "would be deleted:"
	}
	for _, b := range all {
		a.say("%s %s, %s of %s, %s\n", verb, term.Safe(b.GetId()), count(b.GetFiles(), "file", "files"), term.Safe(backupOf(b)), ago(a.now(), b.GetCreatedAt()))
	}
	return nil
}

type backupPruneOptions struct {
	*app
	change
	req apiv1.PruneBackupsRequest
}

func (a *app) newBackupPruneCommand() *cobra.Command {
	o := &backupPruneOptions{app: a}
	cmd := &cobra.Command{
		Use:         "prune",
		Short:       "Forget what retention no longer keeps, and free its space",
		Long:        "Have a backup plugin forget what its retention no longer keeps, and free the space of it. Schedules do so by themselves.",
		Example:     "  sop backup prune --check\n  sop backup prune --plugin kopia",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&o.req.Plugin, "plugin", "", "the backup plugin of this `name` (default files, or the only one)")
	o.addChange(cmd)
	return cmd
}

func (o *backupPruneOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, backupTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.req.ValidateOnly, o.req.IdempotencyKey = o.check, o.watchable(o.key)
	stop := o.showProgress(ctx, c, "pruning", o.req.GetIdempotencyKey(), false)
	answer, err := c.backup().PruneBackups(ctx, connect.NewRequest(&o.req))
	stop()
	if err != nil {
		return err
	}
	p := answer.Msg
	if o.json() {
		return printJSON(o.Out, wire{p})
	}
	if err := o.printDeleted(p.GetBackups(), o.check); err != nil {
		return err
	}
	if n := int64(len(p.GetUnknown())); n > 0 {
		o.say("and %s that the host had no record of\n", count(n, "snapshot", "snapshots"))
	}
	if len(p.GetBackups())+len(p.GetUnknown()) == 0 {
		o.say("nothing to forget in %s\n", term.Safe(p.GetPlugin()))
	}
	if p.GetFreedBytes() > 0 {
		o.say("freed %s\n", sizeText(p.GetFreedBytes()))
	}
	if p.GetNote() != "" {
		o.note("%s\n", term.Safe(p.GetNote()))
	}
	return nil
}
