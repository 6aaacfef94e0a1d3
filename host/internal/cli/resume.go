//go:build !front

package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/host/internal/startup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type resumeOptions struct {
	*app
	change
	reason string
}

func (a *app) newResumeCommand() *cobra.Command {
	o := &resumeOptions{app: a}
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "Lift an emergency stop",
		Long: `Lift an emergency stop: plugins and components come up again. Tokens that were active when it was made stay revoked.
Where no host runs, the next one brings everything up.`,
		Example:     "  sop resume --reason 'the key has been changed'",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addChange(cmd)
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, for the `record`")
	return cmd
}

func (o *resumeOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.emergency().Resume(ctx, connect.NewRequest(&apiv1.ResumeRequest{Reason: o.reason, ValidateOnly: o.check, IdempotencyKey: o.key}))
	switch {
	case err != nil && unreachable(err) && !o.check && !o.isRemote():
		dir := filepath.Dir(filepath.Dir(o.socket()))
		if err := o.engine.Resume(startup.Stopping{DataDir: dir, By: fmt.Sprintf("uid:%d", os.Geteuid()), Reason: o.reason}); err != nil {
			return here(err)
		}
		if o.json() {
			return printJSON(o.Out, map[string]string{"resumed": "the next host starts everything"})
		}
		o.say("lifted; no host runs: the next one brings everything up\n")
		return nil
	case err != nil:
		return err
	case o.check:
		return o.would("the emergency stop would be lifted")
	case o.json():
		return printJSON(o.Out, map[string]wire{"emergency": {answer.Msg.GetState()}})
	}
	s := answer.Msg.GetState()
	o.say("lifted: the stop by %s, %s; everything comes up again\n", term.Safe(s.GetBy()), ago(o.now(), s.GetAt()))
	return nil
}
