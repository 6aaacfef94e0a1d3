package api

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/maintenance"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// maintenanceService serves sop.api.v1.Maintenance.
type maintenanceService struct{ *nexus.Nexus }

// ListMaintenance implements the rpc.
func (s *maintenanceService) ListMaintenance(ctx context.Context, req *connect.Request[apiv1.ListMaintenanceRequest]) (*connect.Response[apiv1.ListMaintenanceResponse], error) {
	filter := maintenance.Filter{Subsystem: req.Msg.GetSubsystem(), Limit: pageSize(req.Msg.GetPageSize()), Token: req.Msg.GetPageToken()}
	var err error
	if filter.Where, err = parseFilter(req.Msg.GetFilter(), maintenance.ListFields); err != nil {
		return nil, err
	}
	if filter.Order, err = parseOrder(req.Msg.GetOrderBy(), maintenance.ListFields); err != nil {
		return nil, err
	}
	if filter.States, err = known("MAINTENANCE_STATE", "state of a maintenance request", "states", maintenance.States(), req.Msg.GetStates()); err != nil {
		return nil, err
	}
	if len(filter.States) == 0 {
		filter.States = []maintenance.State{maintenance.Open}
	}
	page, err := s.Maintenance.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListMaintenanceResponse{NextPageToken: page.Next, Total: page.Total}
	for _, r := range page.Records {
		resp.Requests = append(resp.Requests, maintenanceRecord(r))
	}
	return connect.NewResponse(resp), nil
}

// GetMaintenance implements the rpc.
func (s *maintenanceService) GetMaintenance(ctx context.Context, req *connect.Request[apiv1.GetMaintenanceRequest]) (*connect.Response[apiv1.GetMaintenanceResponse], error) {
	r, err := s.Maintenance.Get(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetMaintenanceResponse{Request: maintenanceRecord(r)}), nil
}

// FileMaintenance implements the rpc.
func (s *maintenanceService) FileMaintenance(ctx context.Context, req *connect.Request[apiv1.FileMaintenanceRequest]) (*connect.Response[apiv1.FileMaintenanceResponse], error) {
	severity, err := maintenance.ParseSeverity(req.Msg.GetSeverity())
	if err != nil {
		return nil, err
	}
	r := maintenance.Request{
		Subsystem: req.Msg.GetSubsystem(), Description: req.Msg.GetDescription(), Remedy: req.Msg.GetRemedy(), Severity: severity,
		Workspace: req.Msg.GetWorkspace(), By: by(ctx),
	}
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.FileMaintenanceResponse{}), s.Maintenance.Check(r)
	}
	filed, err := s.Maintenance.File(ctx, r)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.FileMaintenanceResponse{Request: maintenanceRecord(filed)}), nil
}

// CloseMaintenance implements the rpc.
func (s *maintenanceService) CloseMaintenance(ctx context.Context, req *connect.Request[apiv1.CloseMaintenanceRequest]) (*connect.Response[apiv1.CloseMaintenanceResponse], error) {
	if req.Msg.GetValidateOnly() {
		r, err := s.Maintenance.CheckClose(ctx, req.Msg.GetId(), req.Msg.GetReason())
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(&apiv1.CloseMaintenanceResponse{Request: maintenanceRecord(r)}), nil
	}
	r, err := s.Maintenance.Close(ctx, req.Msg.GetId(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.CloseMaintenanceResponse{Request: maintenanceRecord(r)}), nil
}

// maintenanceRecord converts a request.
func maintenanceRecord(r *maintenance.Record) *apiv1.MaintenanceRecord {
	out := &apiv1.MaintenanceRecord{
		Id: r.ID, Subsystem: r.Subsystem, Workspace: r.Workspace, State: string(r.State), Severity: r.Severity.String(),
		Description: r.Description, Remedy: r.Remedy, FiledBy: r.FiledBy, Owner: r.Owner, Task: r.TaskID, Count: int64(r.Count),
		FirstSeen: stamp(r.FirstSeen), LastSeen: stamp(r.LastSeen), ClosedAt: stamp(r.ClosedAt), ClosedBy: r.ClosedBy, CloseReason: r.CloseReason,
	}
	for _, c := range r.History {
		out.History = append(out.History, &apiv1.MaintenanceChange{At: stamp(c.At), Action: string(c.Action), By: c.By, Reason: c.Why})
	}
	return out
}

// severityOf converts the severity of a plugin's request; the least is low.
func severityOf(s pluginv1.Severity) (maintenance.Severity, error) {
	switch s {
	case pluginv1.Severity_SEVERITY_UNSPECIFIED:
		return maintenance.Medium, nil
	case pluginv1.Severity_SEVERITY_INFO:
		return maintenance.Low, nil
	}
	return maintenance.ParseSeverity(strings.ToLower(strings.TrimPrefix(s.String(), "SEVERITY_")))
}

// RequestMaintenance implements the rpc of sop.plugin.v1.Host.
func (s *pluginHost) RequestMaintenance(ctx context.Context, req *connect.Request[pluginv1.RequestMaintenanceRequest]) (*connect.Response[pluginv1.RequestMaintenanceResponse], error) {
	m := req.Msg
	severity, err := severityOf(m.GetSeverity())
	if err != nil {
		return nil, err
	}
	r := maintenance.Request{Subsystem: m.GetSubsystem(), Description: m.GetDescription(), Severity: severity, Workspace: m.GetWorkspace(), By: by(ctx)}
	if err := s.Maintenance.Check(r); err != nil {
		return nil, err
	}
	if _, err := s.UnderToken(ctx, m.GetToken(), permission(req.Spec()), m.GetWorkspace()); err != nil {
		return nil, err
	}
	filed, err := s.Maintenance.File(ctx, r)
	if err != nil {
		return nil, err
	}
	id := filed.TaskID
	if id == "" {
		id = filed.ID
	}
	return connect.NewResponse(&pluginv1.RequestMaintenanceResponse{TaskId: id}), nil
}
