package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// emergencyService serves sop.api.v1.Emergency.
type emergencyService struct{ *nexus.Nexus }

// EmergencyStop implements the rpc.
func (s *emergencyService) EmergencyStop(ctx context.Context, req *connect.Request[apiv1.EmergencyStopRequest]) (*connect.Response[apiv1.EmergencyStopResponse], error) {
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.EmergencyStopResponse{State: s.Emergency.State()}), nil
	}
	caller, _ := nexus.CallerFrom(ctx)
	// Whoever asked may go away; what was begun is done.
	resp, err := s.Emergency.Stop(context.WithoutCancel(ctx), caller.Name, req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

// Resume implements the rpc.
func (s *emergencyService) Resume(ctx context.Context, req *connect.Request[apiv1.ResumeRequest]) (*connect.Response[apiv1.ResumeResponse], error) {
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.ResumeResponse{State: s.Emergency.State()}), nil
	}
	caller, _ := nexus.CallerFrom(ctx)
	state, err := s.Emergency.Resume(ctx, caller.Name, req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ResumeResponse{State: state}), nil
}
