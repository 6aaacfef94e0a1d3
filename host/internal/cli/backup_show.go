package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type backupShowOptions struct {
	*app
	id    string
	files bool
	paths []string
}

func (a *app) newBackupShowCommand() *cobra.Command {
	o := &backupShowOptions{app: a}
	cmd := &cobra.Command{
		Use:         "show ID [PATH...]",
		Short:       "Show one snapshot, and with --files what it holds",
		Example:     "  sop backup show 019cb000\n  sop backup show 019cb000 --files docs",
		Args:        arguments(1, maxBackupArguments, "the ID of a snapshot"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id, o.paths = args[0], args[1:]
			o.files = o.files || len(o.paths) > 0
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&o.files, "files", false, "list the paths that it holds")
	return cmd
}

func (o *backupShowOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.backup().GetBackup(ctx, connect.NewRequest(&apiv1.GetBackupRequest{Id: o.id}))
	if err != nil {
		return err
	}
	var entries []*apiv1.BackupEntry
	if o.files {
		if entries, err = o.contents(ctx, c); err != nil {
			return err
		}
	}
	b := answer.Msg.GetBackup()
	if o.json() {
		document := map[string]any{"backup": wire{b}}
		if o.files {
			document["entries"] = wires(entries)
		}
		return printJSON(o.Out, document)
	}
	o.print(b)
	if !o.files {
		return nil
	}
	table := o.table(3, "MODE", "SIZE", "MODIFIED (UTC)", "PATH")
	for _, e := range entries {
		table.Row(term.Text(modeText(e)), term.Text(sizeText(e.GetSize())), term.Text(e.GetModified().AsTime().Format("2006-01-02 15:04:05")), term.Text(entryPath(e)))
	}
	_, err = table.WriteTo(o.Out)
	return err
}

func (o *backupShowOptions) contents(ctx context.Context, c *client) ([]*apiv1.BackupEntry, error) {
	stream, err := c.backup().ReadBackupContents(ctx, connect.NewRequest(&apiv1.ReadBackupContentsRequest{Id: o.id, Paths: rawPaths(o.paths)}))
	if err != nil {
		return nil, err
	}
	var all []*apiv1.BackupEntry
	for stream.Receive() {
		all = append(all, stream.Msg().GetEntries()...)
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return all, stream.Close()
}

// print writes one snapshot.
func (o *backupShowOptions) print(b *apiv1.BackupRecord) {
	palette := o.palette(o.OutTerminal)
	state := backupState(b)
	o.say("%s  %s\n", palette.Paint(term.Bold, term.Safe(b.GetId())), palette.Paint(state.Style, state.Text))
	for _, line := range [][2]string{
		{"of", backupOf(b) + " in " + b.GetRoot()},
		{"saved", ago(o.now(), b.GetCreatedAt()) + " by " + b.GetCreatedBy() + ", " + b.GetReason()},
		{"schedule", b.GetSchedule()},
		{"task", b.GetTask()},
		{"patch", b.GetPatch()},
		{"holds", count(b.GetFiles(), "file", "files") + ", " + sizeText(b.GetBytes()) + ", " + sizeText(b.GetStored()) + " new"},
		{"plugin", b.GetPlugin() + ", as " + b.GetRef()},
		{"manifest", b.GetManifestSha256()},
		{"verified", verifiedText(o.app, b)},
		{"why", b.GetStateReason()},
	} {
		if line[1] != "" {
			o.say("  %-9s %s\n", line[0], term.Safe(line[1]))
		}
	}
	o.printPathFailures("not saved", b.GetFailures(), b.GetFailed())
}

// modeText is the type and the permissions, as ls writes them.
func modeText(e *apiv1.BackupEntry) string {
	letter := map[string]string{"file": "-", "dir": "d", "symlink": "l", "fifo": "p", "socket": "s", "chardev": "c", "blockdev": "b"}[e.GetType()]
	const all = "rwxrwxrwx"
	text := []byte(all)
	for i := range text {
		if e.GetMode()&(1<<(8-i)) == 0 {
			text[i] = '-'
		}
	}
	return letter + string(text)
}

func entryPath(e *apiv1.BackupEntry) string {
	if e.GetType() == "symlink" {
		return string(e.GetPath()) + " -> " + string(e.GetTarget())
	}
	return string(e.GetPath())
}
