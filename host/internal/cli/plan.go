//go:build !front

package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/config"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type planOptions struct{ *app }

func (a *app) newPlanCommand() *cobra.Command {
	o := planOptions{a}
	return &cobra.Command{
		Use:   "plan",
		Short: "Say what a reload would do, and do nothing",
		Long: `Say what the configuration as it is on disk would start, stop, restart and leave alone. The running host is asked;
where none runs, everything would start. Nothing is changed; exit 3 when something would be.`,
		Example:     "  sop plan\n  sop plan -o json",
		Args:        noArguments,
		Annotations: exits("3467"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
}

func (o planOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	answer, err := c.host().Plan(ctx, connect.NewRequest(&apiv1.PlanRequest{}))
	if unreachable(err) {
		return o.offline(ctx)
	}
	if err != nil {
		return err
	}
	refused := false
	for _, d := range answer.Msg.GetDiagnostics() {
		refused = refused || d.GetSeverity() != string(config.SeverityWarning)
	}
	if o.json() {
		err = o.printJSON("running", answer.Msg.GetChanges(), wires(answer.Msg.GetDiagnostics()))
	} else {
		o.note("%s", diagnosticsText(answer.Msg.GetDiagnostics()))
		err = o.print("running", answer.Msg.GetChanges(), refused)
	}
	return o.verdict(err, answer.Msg.GetChanges(), refused)
}

// offline plans without a host.
func (o planOptions) offline(ctx context.Context) error {
	if err := o.requireConfig(); err != nil {
		return err
	}
	changes, diagnostics, err := o.engine.Plan(ctx, o.configPath(), o.pluginsDir())
	if err != nil {
		return here(err)
	}
	refused := diagnostics.HasErrors()
	if o.json() {
		err = o.printJSON("stopped", changes, diagnostics)
	} else {
		_ = diagnostics.WriteText(o.Err, bool(o.palette(o.ErrTerminal)), o.width())
		err = o.print("stopped", changes, refused)
	}
	return o.verdict(err, changes, refused)
}

func (o planOptions) printJSON(host string, changes []*apiv1.PlannedChange, diagnostics any) error {
	return printJSON(o.Out, struct {
		Host        string `json:"host"`
		Changes     []wire `json:"changes"`
		Diagnostics any    `json:"diagnostics"`
	}{host, wires(changes), diagnostics})
}

func (o planOptions) print(host string, changes []*apiv1.PlannedChange, refused bool) error {
	switch {
	case refused:
		o.note("\na reload would be refused; what runs would stay as it is\n")
		return nil
	case pending(changes) == 0:
		o.say("nothing would change\n")
		return nil
	case host == "stopped":
		o.say("no host runs; `sop up` would\n")
	default:
		o.say("a reload would\n")
	}
	return o.printChanges(changes)
}

func (o planOptions) verdict(err error, changes []*apiv1.PlannedChange, refused bool) error {
	switch {
	case err != nil:
		return err
	case refused:
		return exitError(exitFailed)
	case pending(changes) > 0:
		return exitError(exitPending)
	}
	return nil
}
