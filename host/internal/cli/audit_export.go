package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

var auditFormats = []string{"jsonl", "cef"}

type auditExportOptions struct {
	*app
	format, file string
}

func (a *app) newAuditExportCommand() *cobra.Command {
	o := &auditExportOptions{app: a}
	cmd := &cobra.Command{
		Use:         "export [FILE]",
		Short:       "Write the whole audit log to a file",
		Long:        "Write the whole audit log to FILE, or to standard output. JSON Lines can be verified without the host; CEF is for collectors.",
		Example:     "  sop audit export audit.jsonl\n  sop audit export --format cef | logger -t sop",
		Args:        arguments(0, 1, "the file"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.file = strings.Join(args, ""); o.file == "-" {
				o.file = ""
			}
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.format, "format", auditFormats[0], "`format`: jsonl or cef")
	a.completeWords(cmd, "format", auditFormats...)
	return cmd
}

func (o *auditExportOptions) run(ctx context.Context) error {
	if err := oneOf("format", o.format, auditFormats); err != nil {
		return err
	}
	ctx, cancel := o.bounded(ctx, 0)
	defer cancel()
	c := o.connect()
	defer c.Close()
	if o.file == "" {
		return o.copy(ctx, c, o.Out)
	}
	return writeWhole(o.file, func(w io.Writer) error { return o.copy(ctx, c, w) })
}

// copy writes what the host sends.
func (o *auditExportOptions) copy(ctx context.Context, c *client, to io.Writer) (err error) {
	stream, err := c.audit().ExportRecords(ctx, connect.NewRequest(&apiv1.ExportRecordsRequest{Format: o.format}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	for stream.Receive() {
		if _, err := io.WriteString(to, stream.Msg().GetText()); err != nil {
			return err
		}
	}
	return stream.Err()
}

// writeWhole puts what write writes in the place of a file, for its owner
// alone, once it is all there. It replaces no device, directory or link.
func writeWhole(path string, write func(io.Writer) error) error {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return usagef("%s is no regular file", path).WithRemedy("leave FILE out to write to standard output")
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

type checkpointOptions struct {
	*app
	change
	last bool
}

func (a *app) newAuditCheckpointCommand() *cobra.Command {
	o := &checkpointOptions{app: a}
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Sign the audit log as it is now",
		Long: `Sign the audit log as it is now and print the checkpoint. Keep it away from the host: with it and the public key,
` + "`sop audit verify --checkpoint`" + ` shows a cut end and a rewrite of everything.`,
		Example:     "  sop audit checkpoint > monday.note\n  sop audit checkpoint --last -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().BoolVar(&o.last, "last", false, "print the latest one and sign nothing")
	o.addChange(cmd)
	return cmd
}

func (o *checkpointOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	checkpoint, err := o.checkpoint(ctx, c)
	switch {
	case err != nil:
		return err
	case o.check && !o.last:
		return o.would("the log would be signed")
	case o.json():
		return printJSON(o.Out, map[string]wire{"checkpoint": {checkpoint}})
	}
	o.say("%s", term.SafeLines(checkpoint.GetNote()))
	o.note("%s signed; public key: %s\n", count(checkpoint.GetSize(), "record", "records"), term.Safe(checkpoint.GetPublicKey()))
	return nil
}

func (o *checkpointOptions) checkpoint(ctx context.Context, c *client) (*apiv1.AuditCheckpoint, error) {
	if o.last {
		answer, err := c.audit().GetCheckpoint(ctx, connect.NewRequest(&apiv1.GetCheckpointRequest{}))
		if err != nil {
			return nil, err
		}
		return answer.Msg.GetCheckpoint(), nil
	}
	answer, err := c.audit().Checkpoint(ctx, connect.NewRequest(&apiv1.CheckpointRequest{ValidateOnly: o.check, IdempotencyKey: o.key}))
	if err != nil {
		return nil, err
	}
	return answer.Msg.GetCheckpoint(), nil
}
