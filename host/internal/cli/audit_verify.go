//go:build !front

package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type auditVerifyOptions struct {
	*app
	export, key string
	checkpoints []string
}

func (a *app) newAuditVerifyCommand() *cobra.Command {
	o := &auditVerifyOptions{app: a}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Find what was changed in the audit log",
		Long: `Read the whole audit log and name the first record that was edited, removed or moved, or a cut end.
The host does it where one runs; without one the log in data_dir is read, and nothing is written. With --export
it is a file, anywhere. A checkpoint that was kept elsewhere shows a rewrite of everything, which nothing else can.`,
		Example: `  sop audit verify
  sop audit verify --checkpoint monday.note
  sop audit verify --export audit.jsonl --key audit.pub --checkpoint monday.note`,
		Args:        noArguments,
		Annotations: exits("47"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&o.export, "export", "", "a `file` that sop audit export wrote, or an archived segment, instead of the log")
	cmd.Flags().StringVar(&o.key, "key", "", "the public `key`, or a file with it (default state/audit.pub in data_dir)")
	cmd.Flags().StringSliceVar(&o.checkpoints, "checkpoint", nil, "a `file` with signed checkpoints to compare with; may be repeated")
	return cmd
}

func (o *auditVerifyOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	result, err := o.verify(ctx)
	if err != nil {
		return err
	}
	return o.print(result)
}

// verify asks the host, and does without where none runs.
func (o *auditVerifyOptions) verify(ctx context.Context) (*apiv1.VerifyResponse, error) {
	offline := startup.AuditVerification{Export: o.export, Key: o.key, Checkpoints: o.checkpoints}
	if o.export != "" {
		if o.key == "" {
			return nil, usagef("--export needs --key").WithRemedy("give the host's state/audit.pub, as it was when the export was made")
		}
		result, err := o.engine.VerifyAudit(ctx, offline)
		return result, here(err)
	}
	if o.key == "" {
		notes, err := startup.ReadCheckpoints(o.checkpoints)
		if err != nil {
			return nil, err
		}
		if size(notes) > maxNotesToSend {
			offline.DataDir = o.dataDir()
			result, err := o.engine.VerifyAudit(ctx, offline)
			return result, here(err)
		}
		c := o.connect()
		defer c.Close()
		answer, err := c.audit().Verify(ctx, connect.NewRequest(&apiv1.VerifyRequest{Checkpoints: notes}))
		if err == nil {
			return answer.Msg, nil
		}
		if !unreachable(err) {
			return nil, err
		}
	}
	offline.DataDir = o.dataDir()
	result, err := o.engine.VerifyAudit(ctx, offline)
	return result, here(err)
}

// maxNotesToSend is how much of checkpoints a request may carry, in bytes; with
// more, the log is read from the data directory, as where no host runs.
const maxNotesToSend = 512 << 10

func size(notes []string) (n int) {
	for _, text := range notes {
		n += len(text)
	}
	return n
}

// print says what was found; a fault ends the command with exit code 1.
func (o *auditVerifyOptions) print(r *apiv1.VerifyResponse) error {
	fault := r.GetFault()
	palette := o.palette(o.OutTerminal)
	switch {
	case o.json():
		if err := printJSON(o.Out, wire{r}); err != nil {
			return err
		}
	case fault == nil:
		o.say("%s: %s, %s, signed up to record %d, in %s\n", palette.Paint(term.Green, "intact"), count(r.GetRecords(), "record", "records"),
			count(r.GetCheckpoints(), "checkpoint agrees", "checkpoints agree"), r.GetSigned(), took(r.GetTook().AsDuration()))
		if r.GetArchived() > 0 {
			o.say("records 1 to %d are in archives, which are intact too\n", r.GetArchived())
		}
		if r.GetCheckpoints() == 0 {
			o.say("no checkpoint was compared: a cut end or a rewrite of everything would not show\n")
		}
	default:
		o.say("%s: %s\n", palette.Paint(term.BoldRed, term.Safe(fault.GetKind())), term.Safe(fault.GetDetail()))
		if fault.GetSeq() > 0 {
			o.say("first bad record: %d\n", fault.GetSeq())
		}
		o.say("%s before it; checkpoints hold up to record %d\n", count(r.GetRecords(), "good record", "good records"), r.GetSigned())
	}
	if fault != nil {
		return exitError(exitFailed)
	}
	return nil
}
