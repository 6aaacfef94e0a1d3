package api

import (
	"context"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// workspaceService serves sop.api.v1.Workspace.
type workspaceService struct{ *nexus.Nexus }

// ListWorkspaces implements the rpc.
func (s *workspaceService) ListWorkspaces(ctx context.Context, _ *connect.Request[apiv1.ListWorkspacesRequest]) (*connect.Response[apiv1.ListWorkspacesResponse], error) {
	all, err := s.Workspaces.List(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ListWorkspacesResponse{Workspaces: all}), nil
}

// ScanWorkspace implements the rpc.
func (s *workspaceService) ScanWorkspace(ctx context.Context, req *connect.Request[apiv1.ScanWorkspaceRequest]) (*connect.Response[apiv1.ScanWorkspaceResponse], error) {
	report, err := s.Workspaces.Scan(ctx, req.Msg.GetWorkspace())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ScanWorkspaceResponse{Scan: report}), nil
}
