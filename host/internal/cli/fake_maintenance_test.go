package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

func testRequest() *apiv1.MaintenanceRecord {
	return &apiv1.MaintenanceRecord{
		Id: "019cb000-0000-7000-8000-00000000000a", Subsystem: "component.scp", State: "open", Severity: "high", Description: "recall fails \x1b[31m",
		Remedy: "look at it", FiledBy: "host", Owner: "operator/stack-team", Task: "t1", Count: 3, FirstSeen: before(time.Hour), LastSeen: before(time.Minute),
		History: []*apiv1.MaintenanceChange{{At: before(time.Hour), Action: "filed", By: "host", Reason: "recall fails"}},
	}
}

// fakeMaintenance answers as in a scenario.
type fakeMaintenance struct{ fakeHost }

func (h fakeMaintenance) ListMaintenance(context.Context, *connect.Request[apiv1.ListMaintenanceRequest]) (*connect.Response[apiv1.ListMaintenanceResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ListMaintenanceResponse{})
	}
	return answer(h.fakeHost, &apiv1.ListMaintenanceResponse{Requests: []*apiv1.MaintenanceRecord{testRequest()}})
}

func (h fakeMaintenance) GetMaintenance(context.Context, *connect.Request[apiv1.GetMaintenanceRequest]) (*connect.Response[apiv1.GetMaintenanceResponse], error) {
	return answer(h.fakeHost, &apiv1.GetMaintenanceResponse{Request: testRequest()})
}

func (h fakeMaintenance) FileMaintenance(_ context.Context, r *connect.Request[apiv1.FileMaintenanceRequest]) (*connect.Response[apiv1.FileMaintenanceResponse], error) {
	out := testRequest()
	out.Subsystem, out.Description, out.Severity = r.Msg.GetSubsystem(), r.Msg.GetDescription(), r.Msg.GetSeverity()
	return answer(h.fakeHost, &apiv1.FileMaintenanceResponse{Request: out})
}

func (h fakeMaintenance) CloseMaintenance(_ context.Context, r *connect.Request[apiv1.CloseMaintenanceRequest]) (*connect.Response[apiv1.CloseMaintenanceResponse], error) {
	out := testRequest()
	out.State, out.ClosedAt, out.ClosedBy, out.CloseReason = "closed", before(0), "uid:1000", r.Msg.GetReason()
	return answer(h.fakeHost, &apiv1.CloseMaintenanceResponse{Request: out})
}
