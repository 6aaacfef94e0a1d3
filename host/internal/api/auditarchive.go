package api

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// ListSinks implements the rpc.
func (s *auditService) ListSinks(ctx context.Context, _ *connect.Request[apiv1.ListSinksRequest]) (*connect.Response[apiv1.ListSinksResponse], error) {
	resp := &apiv1.ListSinksResponse{}
	if s.Sinks == nil {
		return connect.NewResponse(resp), nil
	}
	sinks, err := s.Sinks.Sinks(ctx)
	if err != nil {
		return nil, err
	}
	for i := range sinks {
		resp.Sinks = append(resp.Sinks, auditSink(&sinks[i]))
	}
	return connect.NewResponse(resp), nil
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
func (s *auditService) ListArchives(ctx context.Context, _ *connect.Request[apiv1.ListArchivesRequest]) (*connect.Response[apiv1.ListArchivesResponse], error) {
	segments, err := s.Audit.Archives(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ListArchivesResponse{Archives: auditArchives(segments)}), nil
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
