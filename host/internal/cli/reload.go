package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type reloadOptions struct {
	*app
	change
}

func (a *app) newReloadCommand() *cobra.Command {
	o := &reloadOptions{app: a}
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the host take over its configuration",
		Long: `Make the host read its configuration again and take all of it over, or nothing. A reload that is refused leaves
everything as it was and says why; exit 1 then. The host also does this by itself when the files change.`,
		Example:     "  sop reload --check && sop reload\n  sop plugin reload -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addChange(cmd)
	return cmd
}

func (o *reloadOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.host().Reload(ctx, connect.NewRequest(&apiv1.ReloadRequest{ValidateOnly: o.check, IdempotencyKey: o.key}))
	if err != nil {
		return err
	}
	verdict := answer.Msg.GetVerdict()
	if o.json() {
		err = printJSON(o.Out, map[string]wire{"verdict": {verdict}})
	} else {
		err = o.print(verdict)
	}
	if err == nil && !verdict.GetOk() {
		return exitError(exitFailed)
	}
	return err
}

func (o *reloadOptions) print(verdict *apiv1.ReloadVerdict) error {
	o.note("%s", diagnosticsText(verdict.GetDiagnostics()))
	if !verdict.GetOk() {
		o.note("\nreload refused; what runs stays as it was\n")
		return nil
	}
	if pending(verdict.GetChanges()) == 0 {
		o.say("%s; nothing has changed\n", o.done())
		return nil
	}
	if err := o.printChanges(verdict.GetChanges()); err != nil {
		return err
	}
	if o.check {
		o.say("would be reloaded\n")
		return nil
	}
	o.say("reloaded in %s\n", took(verdict.GetTook().AsDuration()))
	return nil
}

func (o *reloadOptions) done() string {
	if o.check {
		return "would be reloaded"
	}
	return "reloaded"
}
