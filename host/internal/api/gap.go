package api

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// gapService serves sop.api.v1.Gap.
type gapService struct{ *nexus.Nexus }

// ListGaps implements the rpc.
func (s *gapService) ListGaps(ctx context.Context, req *connect.Request[apiv1.ListGapsRequest]) (*connect.Response[apiv1.ListGapsResponse], error) {
	filter, err := gapFilter(req.Msg)
	if err != nil {
		return nil, err
	}
	page, err := s.Gaps.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListGapsResponse{NextPageToken: page.Next, Total: page.Total}
	for _, g := range page.Gaps {
		resp.Gaps = append(resp.Gaps, GapRecord(g))
	}
	return connect.NewResponse(resp), nil
}

// gapFilter converts the request.
func gapFilter(req *apiv1.ListGapsRequest) (gap.Filter, error) {
	filter := gap.Filter{
		Workspace: req.GetWorkspace(), Rule: req.GetRule(), Detector: req.GetDetector(), Path: req.GetPath(),
		Limit: pageSize(req.GetPageSize()), Token: req.GetPageToken(),
	}
	var err error
	if filter.Where, err = parseFilter(req.GetFilter(), gap.ListFields); err != nil {
		return filter, err
	}
	if filter.Order, err = parseOrder(req.GetOrderBy(), gap.ListFields); err != nil {
		return filter, err
	}
	if req.GetMinSeverity() != "" {
		filter.Severity, err = gap.ParseSeverity(req.GetMinSeverity())
		if err != nil {
			return filter, sdk.Errorf(codes.InvalidArgument, "GAP_SEVERITY", "%w", err).WithField("min_severity", "")
		}
	}
	known := make(map[gap.State]bool)
	for _, state := range gap.States() {
		known[state] = true
		if len(req.GetStates()) == 0 && open(state) {
			filter.States = append(filter.States, state)
		}
	}
	for _, name := range req.GetStates() {
		if !known[gap.State(name)] {
			return filter, sdk.Errorf(codes.InvalidArgument, "GAP_STATE", "there is no gap state %q", name).
				WithRemedy("the states are %v", gap.States()).WithField("states", "")
		}
		filter.States = append(filter.States, gap.State(name))
	}
	return filter, nil
}

// open says whether a gap in the state still asks for something.
func open(s gap.State) bool { return s != gap.StateResolved && s != gap.StateSuppressed }

// GetGap implements the rpc.
func (s *gapService) GetGap(ctx context.Context, req *connect.Request[apiv1.GetGapRequest]) (*connect.Response[apiv1.GetGapResponse], error) {
	g, err := s.Gaps.Get(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetGapResponse{Gap: GapRecord(g)}), nil
}

// SuppressGap implements the rpc.
func (s *gapService) SuppressGap(ctx context.Context, req *connect.Request[apiv1.SuppressGapRequest]) (*connect.Response[apiv1.SuppressGapResponse], error) {
	var until *time.Time
	if req.Msg.GetUntil() != nil {
		t := req.Msg.GetUntil().AsTime()
		until = &t
	}
	suppress := s.Gaps.Suppress
	if req.Msg.GetValidateOnly() {
		suppress = s.Gaps.CheckSuppress
	}
	g, err := suppress(ctx, req.Msg.GetId(), by(ctx), req.Msg.GetReason(), until)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.SuppressGapResponse{Gap: GapRecord(g)}), nil
}

// AcknowledgeGap implements the rpc.
func (s *gapService) AcknowledgeGap(ctx context.Context, req *connect.Request[apiv1.AcknowledgeGapRequest]) (*connect.Response[apiv1.AcknowledgeGapResponse], error) {
	acknowledge := s.Gaps.Acknowledge
	if req.Msg.GetValidateOnly() {
		acknowledge = s.Gaps.CheckAcknowledge
	}
	g, err := acknowledge(ctx, req.Msg.GetId(), by(ctx), req.Msg.GetNote())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.AcknowledgeGapResponse{Gap: GapRecord(g)}), nil
}

// ReopenGap implements the rpc.
func (s *gapService) ReopenGap(ctx context.Context, req *connect.Request[apiv1.ReopenGapRequest]) (*connect.Response[apiv1.ReopenGapResponse], error) {
	reopen := s.Gaps.Reopen
	if req.Msg.GetValidateOnly() {
		reopen = s.Gaps.CheckReopen
	}
	g, err := reopen(ctx, req.Msg.GetId(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ReopenGapResponse{Gap: GapRecord(g)}), nil
}

// by names the caller for the record.
func by(ctx context.Context) string {
	c, _ := nexus.CallerFrom(ctx)
	return c.Name
}
