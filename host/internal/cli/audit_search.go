package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

type auditSearchOptions struct {
	*app
	flags auditFilterFlags
	where apiv1.ListRecordsRequest
	limit int
}

func (a *app) newAuditSearchCommand() *cobra.Command {
	o := &auditSearchOptions{app: a}
	cmd := &cobra.Command{
		Use:   "search",
		Short: "Find records, the latest first",
		Example: `  sop audit search --outcome denied --since 7d
  sop audit search --action gap. --actor uid:1000
  sop audit search --resource plugin/detector.docs -o json
  sop audit search --action gap. --since 400d --archived`,
		Args:        noArguments,
		Annotations: exits("4567"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.flags.add(a, cmd)
	addNarrowing(cmd, &o.where.Filter, &o.where.OrderBy, `action = "token.*" AND outcome != success`, "seq")
	cmd.Flags().BoolVar(&o.where.Archived, "archived", false, "in archives, too, which takes longer")
	cmd.Flags().IntVarP(&o.limit, "limit", "n", 100, "at most `number` records; 0 means all")
	return cmd
}

func (o *auditSearchOptions) run(ctx context.Context) error {
	if o.limit < 0 {
		return usagef("--limit must not be negative")
	}
	selection, err := o.flags.filter(o.now())
	if err != nil {
		return err
	}
	o.where.Selection = selection
	usual := queryTimeout
	if o.where.GetArchived() {
		usual = changeTimeout
	}
	ctx, cancel := o.bounded(ctx, usual)
	defer cancel()
	c := o.connect()
	defer c.Close()
	records, more, total, archived, err := searchRecords(ctx, c, &o.where, o.limit)
	if err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, searchAnswer{wires(records), archived})
	}
	if len(records) == 0 {
		o.say("no records\n")
	} else if err := o.printRecords(records); err != nil {
		return err
	}
	switch rest := total - int64(len(records)); {
	case more && rest > 0:
		o.note("%d more; raise --limit to see them\n", rest)
	case more:
		o.note("there are more; raise --limit to see them\n")
	}
	if archived > 0 {
		o.note("records 1 to %d are in archives and were not searched; --archived does\n", archived)
	}
	return nil
}

// searchAnswer is the answer in JSON.
type searchAnswer struct {
	Records  []wire `json:"records"`
	Archived int64  `json:"archived,omitempty"` // the last record that was not looked at
}

// searchRecords asks page by page until it has limit records, or all when limit
// is 0, and says whether there are more, how many there are if the host knows,
// and which was the last that is in an archive.
func searchRecords(ctx context.Context, c *client, req *apiv1.ListRecordsRequest, limit int) (records []*apiv1.AuditRecord, more bool, total, archived int64, err error) {
	for {
		req.PageSize = largestPage
		if limit > 0 {
			req.PageSize = int32(min(largestPage, limit-len(records)))
		}
		answer, err := c.audit().ListRecords(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, false, 0, 0, err
		}
		records = append(records, answer.Msg.GetRecords()...)
		total = max(total, answer.Msg.GetTotal()) // on the first page
		req.PageToken = answer.Msg.GetNextPageToken()
		if req.PageToken == "" || limit > 0 && len(records) >= limit {
			return records, req.PageToken != "", total, answer.Msg.GetArchived(), nil
		}
	}
}
