package cli

import (
	"context"
	"strconv"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type auditSinksOptions struct {
	*app
	narrow apiv1.ListSinksRequest
}

func (a *app) newAuditSinksCommand() *cobra.Command {
	o := &auditSinksOptions{app: a}
	cmd := &cobra.Command{
		Use:   "sinks",
		Short: "Show where the audit log is carried to, and how that is going",
		Long: `Show where checkpoints and records are sent to, how far each has come, and what is wrong where one fails.
A sink that is behind catches up by itself; one that fails is tried again, ever more rarely, up to every five minutes.`,
		Example:     "  sop audit sinks\n  sop audit sinks -o json",
		Args:        noArguments,
		Annotations: exits("34567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	addNarrowing(cmd, &o.narrow.Filter, &o.narrow.OrderBy, "state != ok", "lag desc")
	return cmd
}

func (o *auditSinksOptions) run(ctx context.Context) error {
	ctx, cancel := o.bounded(ctx, queryTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	o.narrow.PageSize = largestPage
	sinks, err := everyPage(func(token string) ([]*apiv1.AuditSink, string, error) {
		o.narrow.PageToken = token
		answer, err := c.audit().ListSinks(ctx, connect.NewRequest(&o.narrow))
		if err != nil {
			return nil, "", err
		}
		return answer.Msg.GetSinks(), answer.Msg.GetNextPageToken(), nil
	})
	if err != nil {
		return err
	}
	if o.json() {
		err = printJSON(o.Out, map[string][]wire{"sinks": wires(sinks)})
	} else {
		err = o.printSinks(sinks)
	}
	if err != nil {
		return err
	}
	for _, s := range sinks {
		if s.GetState() == "failing" {
			return exitError(exitPending)
		}
	}
	return nil
}

func (a *app) printSinks(sinks []*apiv1.AuditSink) error {
	if len(sinks) == 0 {
		a.say("the audit log is carried nowhere; see the audit block in docs/audit.md\n")
		return nil
	}
	table := a.table(2, "ROLE", "KIND", "TARGET", "STATE", "SENT", "LAG", "LAST SENT (UTC)")
	for _, s := range sinks {
		last := "never"
		if s.GetLastSent() != nil {
			last = s.GetLastSent().AsTime().Format("2006-01-02 15:04:05")
		}
		style := map[string]term.Style{"ok": term.Green, "behind": term.Yellow}[s.GetState()]
		if s.GetState() == "failing" {
			style = term.Red
		}
		table.Row(term.Text(s.GetRole()), term.Text(s.GetKind()), term.Text(s.GetTarget()), term.Styled(style, s.GetState()),
			term.Text(strconv.FormatInt(s.GetSent(), 10)), term.Text(strconv.FormatInt(s.GetLag(), 10)), term.Text(last))
	}
	if _, err := table.WriteTo(a.Out); err != nil {
		return err
	}
	for _, s := range sinks {
		if s.GetError() != "" {
			a.say("%s: %s\n  remedy: %s\n", term.Safe(s.GetName()), term.Safe(s.GetError()), term.Safe(s.GetRemedy()))
		}
	}
	return nil
}
