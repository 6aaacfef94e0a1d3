package cli

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func (a *app) newEventCommand() *cobra.Command {
	return a.newGroup("event", "Watch what happens",
		"An event tells of one change: of a gap, a token, a plugin, the configuration. Each has a revision, from which watching can go on.",
		a.newEventWatchCommand())
}

type eventWatchOptions struct {
	*app
	req  apiv1.WatchRequest
	from int64
}

func (a *app) newEventWatchCommand() *cobra.Command {
	o := &eventWatchOptions{app: a}
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show events as they happen; Ctrl-C ends this",
		Long: `Show events as they happen, until Ctrl-C. With --from, first those that came after a revision: who goes on
from the last revision that was shown misses nothing and sees nothing twice, also when the host was restarted.`,
		Example: `  sop event watch
  sop event watch --kind gap --filter 'severity >= high' -o json
  sop event watch --from 1042 -o json`,
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("from") {
				o.req.FromRevision = &o.from
			}
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().Int64Var(&o.from, "from", 0, "begin after this `revision`; 0 is before the first (default: from now on)")
	cmd.Flags().StringSliceVar(&o.req.Kinds, "kind", nil, "only these `kinds`, or what lies beneath them: gap, token.revoked, plugin …")
	cmd.Flags().StringVar(&o.req.Filter, "filter", "", "only what an `expression` lets pass, such as 'severity >= high'")
	return cmd
}

func (o *eventWatchOptions) run(ctx context.Context) (err error) {
	if o.from < 0 {
		return usagef("--from must not be negative")
	}
	ctx, cancel := o.bounded(ctx, 0)
	defer cancel()
	c := o.connect()
	defer c.Close()
	stream, err := c.event().Watch(ctx, connect.NewRequest(&o.req))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ended(ctx, stream.Close())) }()
	for stream.Receive() {
		if err := o.show(stream.Msg()); err != nil {
			return err
		}
	}
	return ended(ctx, stream.Err())
}

// show writes one line; what only tells the revision is for programs.
func (o *eventWatchOptions) show(m *apiv1.WatchResponse) error {
	if o.json() {
		return printJSONLine(o.Out, wire{m})
	}
	e := m.GetEvent()
	if e == nil {
		return nil
	}
	about := joinNonEmpty(" ", e.GetSubject(), e.GetAttributes()["severity"], e.GetAttributes()["rule"], e.GetAttributes()["path"])
	o.say("%d  %s  %s  %s  %s\n", e.GetRevision(), e.GetAt().AsTime().Format("2006-01-02 15:04:05"), term.Safe(e.GetKind()), term.Safe(about),
		term.Safe(joinNonEmpty(": ", e.GetActor(), e.GetReason())))
	return nil
}
