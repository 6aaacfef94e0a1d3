package api

import (
	"bytes"
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// auditService serves sop.api.v1.Audit.
type auditService struct{ *nexus.Nexus }

// ListRecords implements the rpc.
func (s *auditService) ListRecords(ctx context.Context, req *connect.Request[apiv1.ListRecordsRequest]) (*connect.Response[apiv1.ListRecordsResponse], error) {
	filter, err := auditFilter(req.Msg.GetSelection())
	if err != nil {
		return nil, err
	}
	filter.Limit, filter.Token = pageSize(req.Msg.GetPageSize()), req.Msg.GetPageToken()
	if filter.Where, err = parseFilter(req.Msg.GetFilter(), audit.ListFields); err != nil {
		return nil, err
	}
	order, err := parseOrder(req.Msg.GetOrderBy(), audit.OrderFields)
	if err != nil {
		return nil, err
	}
	filter.Oldest, filter.Archived = len(order) > 0 && !order[0].Descending, req.Msg.GetArchived()
	page, err := s.Audit.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListRecordsResponse{NextPageToken: page.Next, Total: page.Total}
	if !filter.Archived {
		archived, err := s.Audit.ArchivedThrough(ctx)
		if err != nil {
			return nil, err
		}
		resp.Archived = int64(archived)
	}
	for _, r := range page.Records {
		resp.Records = append(resp.Records, auditRecord(r))
	}
	return connect.NewResponse(resp), nil
}

// WatchRecords implements the rpc.
func (s *auditService) WatchRecords(ctx context.Context, req *connect.Request[apiv1.WatchRecordsRequest], stream *connect.ServerStream[apiv1.WatchRecordsResponse]) error {
	filter, err := auditFilter(req.Msg.GetFilter())
	if err != nil {
		return err
	}
	filter.After = uint64(max(req.Msg.GetAfter(), 0))
	for r, err := range s.Audit.Follow(ctx, filter) {
		if err != nil {
			return err
		}
		if err := stream.Send(&apiv1.WatchRecordsResponse{Record: auditRecord(r)}); err != nil {
			return err
		}
	}
	return nil
}

// Verify implements the rpc.
func (s *auditService) Verify(ctx context.Context, req *connect.Request[apiv1.VerifyRequest]) (*connect.Response[apiv1.VerifyResponse], error) {
	begin := time.Now()
	report, err := s.Audit.Verify(ctx, req.Msg.GetCheckpoints()...)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(AuditReport(report, time.Since(begin))), nil
}

// Checkpoint implements the rpc.
func (s *auditService) Checkpoint(ctx context.Context, req *connect.Request[apiv1.CheckpointRequest]) (*connect.Response[apiv1.CheckpointResponse], error) {
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.CheckpointResponse{}), nil
	}
	c, err := s.Audit.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.CheckpointResponse{Checkpoint: s.checkpoint(c)}), nil
}

// GetCheckpoint implements the rpc.
func (s *auditService) GetCheckpoint(ctx context.Context, _ *connect.Request[apiv1.GetCheckpointRequest]) (*connect.Response[apiv1.GetCheckpointResponse], error) {
	c, err := s.Audit.Latest(ctx)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, sdk.Errorf(codes.NotFound, "AUDIT_NO_CHECKPOINT", "the log has not been signed yet").
			WithRemedy("sign it with: sop audit checkpoint")
	}
	return connect.NewResponse(&apiv1.GetCheckpointResponse{Checkpoint: s.checkpoint(c)}), nil
}

func (s *auditService) checkpoint(c *audit.Checkpoint) *apiv1.AuditCheckpoint {
	return &apiv1.AuditCheckpoint{
		Size: int64(c.Size), Root: c.Root.String(), Time: stamp(c.Time), Note: c.Note, PublicKey: s.Audit.PublicKey(),
	}
}

// ExportRecords implements the rpc.
func (s *auditService) ExportRecords(ctx context.Context, req *connect.Request[apiv1.ExportRecordsRequest], stream *connect.ServerStream[apiv1.ExportRecordsResponse]) error {
	format, err := audit.ParseFormat(req.Msg.GetFormat())
	if err != nil {
		return err
	}
	out := &lines{stream: stream}
	if err := s.Audit.Export(ctx, format, out); err != nil {
		return err
	}
	return out.flush()
}

// lines sends what is written to it in pieces; each write is whole lines.
type lines struct {
	stream *connect.ServerStream[apiv1.ExportRecordsResponse]
	buf    bytes.Buffer
}

// exportPiece is how much is sent at a time, in bytes.
const exportPiece = 64 << 10

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.buf.Write(p)
	if l.buf.Len() < exportPiece {
		return len(p), nil
	}
	return len(p), l.flush()
}

func (l *lines) flush() error {
	if l.buf.Len() == 0 {
		return nil
	}
	defer l.buf.Reset()
	return l.stream.Send(&apiv1.ExportRecordsResponse{Text: l.buf.String()})
}

// outcomeOf reads the outcome of a record.
func outcomeOf(word string) (audit.Outcome, error) {
	outcome := audit.Outcome(word)
	if !slices.Contains(audit.Outcomes(), outcome) {
		return "", sdk.Errorf(codes.InvalidArgument, "AUDIT_OUTCOME", "there is no outcome %q", word).
			WithRemedy("the outcomes are %v", audit.Outcomes()).WithField("outcome", "")
	}
	return outcome, nil
}

// auditFilter converts the request.
func auditFilter(f *apiv1.AuditFilter) (audit.Filter, error) {
	out := audit.Filter{
		Actor: f.GetActor(), Action: f.GetAction(), Resource: f.GetResource(),
	}
	if f.GetOutcome() != "" {
		var err error
		if out.Outcome, err = outcomeOf(f.GetOutcome()); err != nil {
			return out, err
		}
	}
	if f.GetSince() != nil {
		out.Since = f.GetSince().AsTime()
	}
	if f.GetUntil() != nil {
		out.Until = f.GetUntil().AsTime()
	}
	return out, nil
}

func auditRecord(r *audit.Record) *apiv1.AuditRecord {
	return &apiv1.AuditRecord{
		Seq: int64(r.Seq), Time: stamp(r.Time), Actor: r.Actor, Action: r.Action, Resource: r.Resource, Outcome: string(r.Outcome),
		Reason: r.Reason, RequestId: r.RequestID, TraceId: r.TraceID, Token: r.Token, Attributes: r.Attributes,
		PrevHash: r.PrevHash.String(), Hash: r.Hash.String(),
	}
}

// AuditReport converts what a verification found.
func AuditReport(r *audit.Report, took time.Duration) *apiv1.VerifyResponse {
	out := &apiv1.VerifyResponse{
		Ok: r.Fault == nil, Records: int64(r.Records), Checkpoints: int64(r.Checkpoints), Signed: int64(r.Signed),
		Root: r.Head.Root().String(), Took: durationpb.New(took), Archived: int64(r.Archived),
	}
	if f := r.Fault; f != nil {
		out.Fault = &apiv1.AuditFault{Seq: int64(f.Seq), Until: int64(f.Until), Kind: string(f.Kind), Detail: f.Detail}
	}
	return out
}
