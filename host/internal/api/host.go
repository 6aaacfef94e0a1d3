package api

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// hostService serves sop.api.v1.Host.
type hostService struct{ *nexus.Nexus }

// GetStatus implements the rpc.
func (s *hostService) GetStatus(ctx context.Context, _ *connect.Request[apiv1.GetStatusRequest]) (*connect.Response[apiv1.GetStatusResponse], error) {
	status, err := s.Host.Status(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetStatusResponse{Status: status}), nil
}

// WatchStatus implements the rpc.
func (s *hostService) WatchStatus(ctx context.Context, _ *connect.Request[apiv1.WatchStatusRequest], stream *connect.ServerStream[apiv1.WatchStatusResponse]) error {
	for {
		changed := s.Host.Changed() // before the status, so that no change is missed
		status, err := s.Host.Status(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&apiv1.WatchStatusResponse{Status: status}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return nil // the caller has gone, or the host stops
		}
	}
}

// Reload implements the rpc.
func (s *hostService) Reload(ctx context.Context, req *connect.Request[apiv1.ReloadRequest]) (*connect.Response[apiv1.ReloadResponse], error) {
	reload := s.Host.Reload
	if req.Msg.GetValidateOnly() {
		reload = s.Host.CheckReload
	}
	verdict, err := reload(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ReloadResponse{Verdict: verdict}), nil
}

// Plan implements the rpc.
func (s *hostService) Plan(ctx context.Context, _ *connect.Request[apiv1.PlanRequest]) (*connect.Response[apiv1.PlanResponse], error) {
	plan, err := s.Host.Plan(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(plan), nil
}
