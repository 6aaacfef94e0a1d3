package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

type gapSuppressOptions struct {
	*app
	change
	id, reason, until string
}

func (a *app) newGapSuppressCommand() *cobra.Command {
	o := &gapSuppressOptions{app: a}
	cmd := &cobra.Command{
		Use:   "suppress ID --reason TEXT",
		Short: "Tolerate a gap, for a reason",
		Long: `Tolerate a gap: it is no longer listed, for as long as its content stays as it is, or until a time.
ID is its id, an unambiguous beginning of it, or its fingerprint.`,
		Example:     "  sop gap suppress 0199f3c2 --reason \"generated, see #12\"\n  sop gap suppress 0199f3c2 --reason \"next quarter\" --until 90d",
		Args:        arguments(1, 1, "the ID of a gap"),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return o.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, in `words`; required")
	cmd.Flags().StringVar(&o.until, "until", "", "end: a `time` (2026-12-31, RFC 3339), or how long from now (12h, 90d)")
	o.addChange(cmd)
	return cmd
}

func (o *gapSuppressOptions) run(ctx context.Context) error {
	if strings.TrimSpace(o.reason) == "" {
		return usagef("--reason is missing").WithRemedy("say why the gap is tolerated, for whoever reads this later")
	}
	until, err := parseUntil(o.now(), o.until)
	if err != nil {
		return err
	}
	return o.decide(ctx, o.check, "suppressed", func(ctx context.Context, c apiv1connect.GapClient) (gapAnswer, error) {
		return message(c.SuppressGap(ctx, connect.NewRequest(&apiv1.SuppressGapRequest{
			Id: o.id, Reason: o.reason, Until: until, ValidateOnly: o.check, IdempotencyKey: o.key,
		})))
	})
}

// parseUntil reads the end of a suppression; nil stands for none.
func parseUntil(now time.Time, text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	until, ok := readTime(now, text)
	if !ok {
		return nil, usagef("--until: %q is no time", text).WithRemedy("write 2026-12-31, 2026-12-31T18:00:00Z, 12h or 90d")
	}
	if !until.After(now) {
		return nil, usagef("--until: %s is over", text)
	}
	return timestamppb.New(until), nil
}

// readInstant reads a date or a point in time.
func readInstant(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// readTime reads a point in time, or how long after now it is.
func readTime(now time.Time, text string) (time.Time, bool) {
	if t, ok := readInstant(text); ok {
		return t, true
	}
	if days, found := strings.CutSuffix(text, "d"); found {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, int(n)), true
		}
	}
	d, err := time.ParseDuration(text)
	return now.Add(d), err == nil
}
