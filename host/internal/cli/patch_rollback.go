package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type patchRollbackOptions struct {
	*app
	change
	request apiv1.RollbackPatchRequest
}

func (a *app) newPatchRollbackCommand() *cobra.Command {
	o := &patchRollbackOptions{app: a}
	cmd := &cobra.Command{
		Use:   "rollback ID",
		Short: "Take an integrated patch back, all of it or nothing",
		Long: `Take an integrated patch back, all of it or nothing. A file that somebody has changed since is a reason to refuse, unless
--merge says to keep those edits where they do not touch the same lines; what is there is saved before. What was replaced comes from the
copies beside the workspace or, where those are gone or damaged, from the backup that was made before the integration. ` + patchID,
		Example:     "  sop patch rollback 0199f3c2 --reason \"breaks the build on arm\"\n  sop patch rollback 0199f3c2 --merge",
		Args:        patchArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&o.request.Merge, "merge", false, "keep what was edited since")
	cmd.Flags().StringVar(&o.request.Reason, "reason", "", "why, in `words`")
	o.addChange(cmd)
	return cmd
}

func (o *patchRollbackOptions) run(ctx context.Context) error {
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, backupTimeout) // of what is replaced; it may come from one, too
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.patch().RollbackPatch(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the patch is integrated and could be taken back")
	}
	p := answer.Msg.GetPatch()
	if o.json() {
		return printJSON(o.Out, struct {
			Patch wire     `json:"patch"`
			Notes []string `json:"notes"`
			// Source is where what was replaced came back from, and Backup the snapshot
			// of what that replaced.
			Source string `json:"source,omitempty"`
			Backup string `json:"backup,omitempty"`
		}{wire{p}, answer.Msg.GetNotes(), answer.Msg.GetSource(), answer.Msg.GetBackup()})
	}
	o.say("rolled back %s: %s\n", term.Safe(p.GetId()), term.Safe(p.GetTitle()))
	for _, f := range [][2]string{{"source", answer.Msg.GetSource()}, {"saved as", answer.Msg.GetBackup()}} {
		if f[1] != "" {
			o.say("  %s %s\n", term.Pad(f[0], 12), term.Safe(f[1]))
		}
	}
	for _, note := range answer.Msg.GetNotes() {
		o.note("%s\n", term.Safe(note))
	}
	return nil
}
