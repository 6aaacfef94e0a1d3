package cli

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// fakeWorkspace answers as in a scenario.
type fakeWorkspace struct{ fakeHost }

func (h fakeWorkspace) ListWorkspaces(context.Context, *connect.Request[apiv1.ListWorkspacesRequest]) (*connect.Response[apiv1.ListWorkspacesResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ListWorkspacesResponse{})
	}
	return answer(h.fakeHost, &apiv1.ListWorkspacesResponse{Workspaces: []*apiv1.WorkspaceStatus{testWorkspace()}})
}

func (h fakeWorkspace) GetWorkspace(_ context.Context, r *connect.Request[apiv1.GetWorkspaceRequest]) (*connect.Response[apiv1.GetWorkspaceResponse], error) {
	if r.Msg.GetName() != "main" {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no such workspace"))
	}
	return answer(h.fakeHost, &apiv1.GetWorkspaceResponse{Workspace: testWorkspace()})
}

func (h fakeWorkspace) ScanWorkspace(_ context.Context, r *connect.Request[apiv1.ScanWorkspaceRequest]) (*connect.Response[apiv1.ScanWorkspaceResponse], error) {
	if r.Msg.GetValidateOnly() {
		return answer(h.fakeHost, &apiv1.ScanWorkspaceResponse{})
	}
	scan := testScan()
	if h.scenario == "degraded" {
		scan.Complete, scan.Error = false, "detector.docs stopped"
	}
	return answer(h.fakeHost, &apiv1.ScanWorkspaceResponse{Scan: scan})
}
