package api

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// runService serves sop.api.v1.Run.
type runService struct{ *nexus.Nexus }

// StartRun implements the rpc.
func (s *runService) StartRun(ctx context.Context, req *connect.Request[apiv1.StartRunRequest]) (*connect.Response[apiv1.StartRunResponse], error) {
	start := s.Runs.Start
	if req.Msg.GetValidateOnly() {
		start = s.Runs.CheckStart
	}
	t, err := start(ctx, req.Msg.GetId(), req.Msg.GetSandbox(), by(ctx))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.StartRunResponse{TaskId: t.ID, State: string(t.State)}), nil
}

// TryRun implements the rpc.
func (s *runService) TryRun(ctx context.Context, req *connect.Request[apiv1.TryRunRequest]) (*connect.Response[apiv1.TryRunResponse], error) {
	if req.Msg.GetValidateOnly() {
		_, err := s.Runs.CheckStart(ctx, req.Msg.GetId(), req.Msg.GetSandbox(), by(ctx))
		return connect.NewResponse(&apiv1.TryRunResponse{}), err
	}
	trial, err := s.Runs.Try(ctx, req.Msg.GetId(), req.Msg.GetSandbox(), by(ctx))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.TryRunResponse{
		Outcome: trial.Outcome, Explanation: trial.Explanation, Diff: trial.Diff, Evidence: trial.Evidence, Rejected: trial.Rejected,
	}), nil
}

// WatchRun implements the rpc.
func (s *runService) WatchRun(ctx context.Context, req *connect.Request[apiv1.WatchRunRequest], stream *connect.ServerStream[apiv1.WatchRunResponse]) error {
	return s.Runs.Watch(ctx, req.Msg.GetTaskId(), func(step nexus.RunStep) error {
		return stream.Send(&apiv1.WatchRunResponse{
			At: timestamppb.New(step.At), State: step.State, Phase: step.Phase, Detail: step.Detail, Remedy: step.Remedy,
			PatchId: step.Patch, Settled: step.Settled,
		})
	})
}
