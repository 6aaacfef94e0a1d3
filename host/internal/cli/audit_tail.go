package cli

import (
	"context"
	"errors"
	"slices"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type auditTailOptions struct {
	*app
	number int
	follow bool
}

func (a *app) newAuditTailCommand() *cobra.Command {
	o := &auditTailOptions{app: a}
	cmd := &cobra.Command{
		Use:         "tail",
		Short:       "Show the latest records",
		Example:     "  sop audit tail\n  sop audit tail -n 5 --follow -o json",
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().IntVarP(&o.number, "lines", "n", 20, "the latest `number` of records")
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with those that come; Ctrl-C ends this")
	return cmd
}

func (o *auditTailOptions) run(ctx context.Context) error {
	if o.number < 0 || o.number > largestPage {
		return usagef("--lines must be between 0 and %d", largestPage)
	}
	usual := queryTimeout
	if o.follow {
		usual = 0
	}
	ctx, cancel := o.bounded(ctx, usual)
	defer cancel()
	c := o.connect()
	defer c.Close()
	// At least one, so that following knows where to go on.
	answer, err := c.audit().ListRecords(ctx, connect.NewRequest(&apiv1.ListRecordsRequest{PageSize: int32(max(o.number, 1))}))
	if err != nil {
		return err
	}
	records := answer.Msg.GetRecords()
	last := int64(0)
	if len(records) > 0 {
		last = records[0].GetSeq()
	}
	records = records[:min(len(records), o.number)]
	slices.Reverse(records)
	if err := o.show(records); err != nil || !o.follow {
		return err
	}
	return ended(ctx, o.goOn(ctx, c, last))
}

func (o *auditTailOptions) show(records []*apiv1.AuditRecord) error {
	switch {
	case o.follow:
		for _, r := range records {
			if err := o.printRecord(r); err != nil {
				return err
			}
		}
		return nil
	case o.json():
		return printJSON(o.Out, map[string][]wire{"records": wires(records)})
	}
	return o.printRecords(records)
}

// goOn writes what comes after a record.
func (o *auditTailOptions) goOn(ctx context.Context, c *client, after int64) (err error) {
	stream, err := c.audit().WatchRecords(ctx, connect.NewRequest(&apiv1.WatchRecordsRequest{After: after}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ended(ctx, stream.Close())) }()
	for stream.Receive() {
		if err := o.printRecord(stream.Msg().GetRecord()); err != nil {
			return err
		}
	}
	return stream.Err()
}
