package cli

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sop-host/sop/host/internal/cli/term"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type componentLogsOptions struct {
	*app
	name   string
	number int
	follow bool
}

func (a *app) newComponentLogsCommand() *cobra.Command {
	o := &componentLogsOptions{app: a}
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show what a component printed",
		Long: `Show the last lines of what a component printed, on standard output or standard error, with the time at which they came.
With -o json, one object a line.`,
		Example:     "  sop component logs arp\n  sop component logs arp -n 5 --follow",
		Args:        arguments(1, 1, "the NAME of a component"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().IntVarP(&o.number, "lines", "n", 50, "the latest `number` of lines")
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with those that come; Ctrl-C ends this")
	return cmd
}

// mostLogLines is what a host gives out at once.
const mostLogLines = 10_000

func (o *componentLogsOptions) run(ctx context.Context) (err error) {
	if o.number < 0 || o.number > mostLogLines {
		return usagef("--lines must be between 0 and %d", mostLogLines)
	}
	usual := queryTimeout
	if o.follow {
		usual = 0
	}
	ctx, cancel := o.bounded(ctx, usual)
	defer cancel()
	c := o.connect()
	defer c.Close()
	stream, err := c.component().ReadLogs(ctx, connect.NewRequest(&apiv1.ReadLogsRequest{Name: o.name, Lines: int32(o.number), Follow: o.follow}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ended(ctx, stream.Close())) }()
	for stream.Receive() {
		for _, l := range stream.Msg().GetLines() {
			if err := o.line(l); err != nil {
				return err
			}
		}
	}
	return ended(ctx, stream.Err())
}

func (o *componentLogsOptions) line(l *apiv1.LogLine) error {
	if o.json() {
		return printJSONLine(o.Out, wire{l})
	}
	at := ""
	if l.GetAt() != nil {
		at = l.GetAt().AsTime().Local().Format(time.TimeOnly + ".000 ")
	}
	o.say("%s%s\n", at, term.Safe(l.GetText()))
	return nil
}
