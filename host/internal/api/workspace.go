package api

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// workspaceService serves sop.api.v1.Workspace.
type workspaceService struct{ *nexus.Nexus }

// ListWorkspaces implements the rpc.
func (s *workspaceService) ListWorkspaces(ctx context.Context, req *connect.Request[apiv1.ListWorkspacesRequest]) (*connect.Response[apiv1.ListWorkspacesResponse], error) {
	all, err := s.Workspaces.List(ctx)
	if err != nil {
		return nil, err
	}
	items, next, total, err := workspaceList.page(all, req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ListWorkspacesResponse{Workspaces: items, NextPageToken: next, Total: int64(total)}), nil
}

var workspaceList = listing[*apiv1.WorkspaceStatus]{
	usual: "name",
	fields: filter.Schema{
		{Name: "name", Kind: filter.Text},
		{Name: "path", Kind: filter.Path},
		{Name: "state", Kind: filter.Text},
		{Name: "last_scan", Kind: filter.Time, Absent: true},
	},
	value: func(w *apiv1.WorkspaceStatus, field string) filter.Value {
		if field == "last_scan" {
			at := w.GetLastScan().GetStartedAt()
			return filter.Value{Absent: at == nil, Number: at.AsTime().UnixNano()}
		}
		return filter.Value{Text: map[string]string{"name": w.GetName(), "path": w.GetPath(), "state": w.GetState()}[field]}
	},
}

// GetWorkspace implements the rpc.
func (s *workspaceService) GetWorkspace(ctx context.Context, req *connect.Request[apiv1.GetWorkspaceRequest]) (*connect.Response[apiv1.GetWorkspaceResponse], error) {
	w, err := s.find(ctx, req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetWorkspaceResponse{Workspace: w}), nil
}

// ScanWorkspace implements the rpc.
func (s *workspaceService) ScanWorkspace(ctx context.Context, req *connect.Request[apiv1.ScanWorkspaceRequest]) (*connect.Response[apiv1.ScanWorkspaceResponse], error) {
	if req.Msg.GetValidateOnly() {
		_, err := s.find(ctx, req.Msg.GetWorkspace())
		return connect.NewResponse(&apiv1.ScanWorkspaceResponse{}), err
	}
	report, err := s.Workspaces.Scan(ctx, req.Msg.GetWorkspace())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ScanWorkspaceResponse{Scan: report}), nil
}

// find returns a workspace, or says that there is none.
func (s *workspaceService) find(ctx context.Context, name string) (*apiv1.WorkspaceStatus, error) {
	all, err := s.Workspaces.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range all {
		if w.GetName() == name {
			return w, nil
		}
	}
	return nil, sdk.Errorf(codes.NotFound, "WORKSPACE_UNKNOWN", "there is no workspace %q", name).
		WithRemedy("`sop workspace list` names the configured workspaces")
}
