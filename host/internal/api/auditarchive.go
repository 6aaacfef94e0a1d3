package api

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// ListSinks implements the rpc.
func (s *auditService) ListSinks(ctx context.Context, req *connect.Request[apiv1.ListSinksRequest]) (*connect.Response[apiv1.ListSinksResponse], error) {
	var all []*apiv1.AuditSink
	if s.Sinks != nil {
		sinks, err := s.Sinks.Sinks(ctx)
		if err != nil {
			return nil, err
		}
		for i := range sinks {
			all = append(all, auditSink(&sinks[i]))
		}
	}
	items, next, total, err := sinkList.page(all, req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ListSinksResponse{Sinks: items, NextPageToken: next, Total: int64(total)}), nil
}

var sinkList = listing[*apiv1.AuditSink]{
	usual: "name",
	fields: filter.Schema{
		{Name: "name", Kind: filter.Text},
		{Name: "role", Kind: filter.Word, Words: []string{"checkpoint", "mirror"}},
		{Name: "kind", Kind: filter.Text},
		{Name: "target", Kind: filter.Text},
		{Name: "state", Kind: filter.Word, Words: []string{"ok", "behind", "failing"}},
		{Name: "sent", Kind: filter.Number},
		{Name: "lag", Kind: filter.Number},
		{Name: "failures", Kind: filter.Number},
		{Name: "last_sent", Kind: filter.Time, Absent: true},
	},
	value: func(s *apiv1.AuditSink, field string) filter.Value {
		switch field {
		case "sent":
			return filter.Value{Number: s.GetSent()}
		case "lag":
			return filter.Value{Number: s.GetLag()}
		case "failures":
			return filter.Value{Number: s.GetFailures()}
		case "last_sent":
			return filter.Value{Absent: s.GetLastSent() == nil, Number: s.GetLastSent().AsTime().UnixNano()}
		}
		return filter.Value{Text: map[string]string{
			"name": s.GetName(), "role": s.GetRole(), "kind": s.GetKind(), "target": s.GetTarget(), "state": s.GetState(),
		}[field]}
	},
}

func auditSink(s *audit.SinkStatus) *apiv1.AuditSink {
	out := &apiv1.AuditSink{
		Name: s.Name, Role: "checkpoint", Kind: s.Kind, Target: s.Target, State: "ok", Sent: int64(s.Sent), Lag: int64(s.Lag),
		Failures: int64(s.Failures), Error: s.Error, Remedy: s.Remedy,
	}
	if s.Mirror {
		out.Role = "mirror"
	}
	if s.Lag > 0 {
		out.State = "behind"
	}
	if s.Failures > 0 {
		out.State, out.FailingSince = "failing", stamp(s.FailingSince)
	}
	if !s.LastSent.IsZero() {
		out.LastSent = stamp(s.LastSent)
	}
	return out
}

// ListArchives implements the rpc.
func (s *auditService) ListArchives(ctx context.Context, req *connect.Request[apiv1.ListArchivesRequest]) (*connect.Response[apiv1.ListArchivesResponse], error) {
	segments, err := s.Audit.Archives(ctx)
	if err != nil {
		return nil, err
	}
	items, next, total, err := archiveList.page(segments, req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ListArchivesResponse{Archives: auditArchives(items), NextPageToken: next, Total: int64(total)}), nil
}

var archiveList = listing[audit.Segment]{
	usual: "first",
	fields: filter.Schema{
		{Name: "first", Kind: filter.Number},
		{Name: "last", Kind: filter.Number},
		{Name: "file", Kind: filter.Text},
		{Name: "bytes", Kind: filter.Number},
		{Name: "from", Kind: filter.Time},
		{Name: "until", Kind: filter.Time},
		{Name: "archived_at", Kind: filter.Time},
	},
	value: func(s audit.Segment, field string) filter.Value {
		if field == "file" {
			return filter.Value{Text: s.File}
		}
		return filter.Value{Number: map[string]int64{
			"first": int64(s.First), "last": int64(s.Last), "bytes": s.Bytes,
			"from": s.From.UnixNano(), "until": s.Until.UnixNano(), "archived_at": s.At.UnixNano(),
		}[field]}
	},
}

// ArchiveRecords implements the rpc.
func (s *auditService) ArchiveRecords(ctx context.Context, req *connect.Request[apiv1.ArchiveRecordsRequest]) (*connect.Response[apiv1.ArchiveRecordsResponse], error) {
	keep, segment := time.Duration(0), uint64(audit.DefaultSegment)
	if s.Retention != nil {
		keep, segment = s.Retention()
	}
	order := audit.ArchiveRequest{Actor: "host", Size: segment, DryRun: req.Msg.GetValidateOnly()}
	if c, ok := nexus.CallerFrom(ctx); ok {
		order.Actor = c.Name
	}
	if n := req.Msg.GetSegment(); n != 0 {
		if n < audit.MinSegment || n > audit.MaxSegment {
			return nil, sdk.Errorf(codes.InvalidArgument, "AUDIT_SEGMENT", "a segment has %d to %d records", audit.MinSegment, audit.MaxSegment)
		}
		order.Size = uint64(n)
	}
	switch {
	case req.Msg.GetBefore() != nil:
		order.Before, order.Partial = req.Msg.GetBefore().AsTime(), true
	case keep > 0:
		order.Before = time.Now().Add(-keep)
	default:
		return nil, sdk.Errorf(codes.InvalidArgument, "AUDIT_RETENTION", "the configuration does not say how long records are kept").
			WithRemedy("say before when with --before, or write audit { retention { keep = \"90d\" } }")
	}
	segments, err := s.Audit.Archive(ctx, order)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ArchiveRecordsResponse{Archives: auditArchives(segments)}), nil
}

func auditArchives(segments []audit.Segment) []*apiv1.AuditArchive {
	out := make([]*apiv1.AuditArchive, len(segments))
	for i := range segments {
		s := &segments[i]
		out[i] = &apiv1.AuditArchive{First: int64(s.First), Last: int64(s.Last), File: s.File, Note: s.Note}
		if !s.At.IsZero() { // otherwise it is only planned
			out[i].Bytes, out[i].Sha256, out[i].Root = s.Bytes, s.Sum.String(), s.End.Root().String()
			out[i].From, out[i].Until, out[i].ArchivedAt = stamp(s.From), stamp(s.Until), stamp(s.At)
		}
	}
	return out
}
