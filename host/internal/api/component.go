package api

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sop-host/sop/host/internal/component"
	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"

	"google.golang.org/grpc/codes"
)

// componentService serves sop.api.v1.Component.
type componentService struct{ *nexus.Nexus }

// ListComponents implements the rpc.
func (s *componentService) ListComponents(_ context.Context, req *connect.Request[apiv1.ListComponentsRequest]) (*connect.Response[apiv1.ListComponentsResponse], error) {
	items, next, total, err := componentList.page(s.Components.Status(), req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ListComponentsResponse{Components: ComponentStatuses(items), NextPageToken: next, Total: int64(total)}), nil
}

var componentList = listing[component.Status]{
	usual: "name",
	fields: filter.Schema{
		{Name: "name", Kind: filter.Text},
		{Name: "state", Kind: filter.Text},
		{Name: "activation", Kind: filter.Text},
		{Name: "since", Kind: filter.Time},
		{Name: "restarts", Kind: filter.Number},
		{Name: "pid", Kind: filter.Number},
		{Name: "users", Kind: filter.Number},
	},
	value: func(s component.Status, field string) filter.Value {
		if field == "since" {
			return filter.Value{Number: s.Since.UnixNano()}
		}
		if text, ok := map[string]string{"name": s.Name, "state": string(s.State), "activation": activation(s)}[field]; ok {
			return filter.Value{Text: text}
		}
		return filter.Value{Number: map[string]int64{"restarts": int64(s.Restarts), "pid": int64(s.PID), "users": int64(s.Users)}[field]}
	},
}

// GetComponent implements the rpc.
func (s *componentService) GetComponent(_ context.Context, req *connect.Request[apiv1.GetComponentRequest]) (*connect.Response[apiv1.GetComponentResponse], error) {
	status, err := s.status(req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetComponentResponse{Component: status}), nil
}

// ReadLogs implements the rpc.
func (s *componentService) ReadLogs(ctx context.Context, req *connect.Request[apiv1.ReadLogsRequest], stream *connect.ServerStream[apiv1.ReadLogsResponse]) error {
	if n := req.Msg.GetLines(); n < 0 || n > component.MostLines {
		return sdk.Errorf(codes.InvalidArgument, "LINES", "lines must be from 0 to %d", component.MostLines)
	}
	return s.Components.Logs(ctx, req.Msg.GetName(), int(req.Msg.GetLines()), req.Msg.GetFollow(), func(lines []component.Line) error {
		for len(lines) > 0 {
			n := min(len(lines), linesAtOnce)
			out := &apiv1.ReadLogsResponse{}
			for _, l := range lines[:n] {
				out.Lines = append(out.Lines, &apiv1.LogLine{At: stamp(l.At), Text: l.Text})
			}
			if err := stream.Send(out); err != nil {
				return err
			}
			lines = lines[n:]
		}
		return nil
	})
}

// linesAtOnce bounds one message of logs.
const linesAtOnce = 200

// StartComponent implements the rpc.
func (s *componentService) StartComponent(ctx context.Context, req *connect.Request[apiv1.StartComponentRequest]) (*connect.Response[apiv1.StartComponentResponse], error) {
	if !req.Msg.GetValidateOnly() {
		if err := s.Components.StartOne(ctx, req.Msg.GetName()); err != nil {
			return nil, err
		}
	}
	status, err := s.status(req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.StartComponentResponse{Component: status}), nil
}

// StopComponent implements the rpc.
func (s *componentService) StopComponent(ctx context.Context, req *connect.Request[apiv1.StopComponentRequest]) (*connect.Response[apiv1.StopComponentResponse], error) {
	var first []string
	var err error
	if req.Msg.GetValidateOnly() {
		err = s.Components.CheckStop(req.Msg.GetName(), req.Msg.GetDependants())
	} else {
		first, err = s.Components.Stop(ctx, req.Msg.GetName(), req.Msg.GetDependants())
	}
	if err != nil {
		return nil, err
	}
	status, err := s.status(req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.StopComponentResponse{Component: status, Dependants: first}), nil
}

// RestartComponent implements the rpc.
func (s *componentService) RestartComponent(ctx context.Context, req *connect.Request[apiv1.RestartComponentRequest]) (*connect.Response[apiv1.RestartComponentResponse], error) {
	if !req.Msg.GetValidateOnly() {
		if err := s.Components.Restart(ctx, req.Msg.GetName()); err != nil {
			return nil, err
		}
	}
	status, err := s.status(req.Msg.GetName())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RestartComponentResponse{Component: status}), nil
}

func (s *componentService) status(name string) (*apiv1.ComponentStatus, error) {
	st, err := s.Components.Get(name)
	if err != nil {
		return nil, err
	}
	return componentStatus(st), nil
}

// ComponentStatuses converts the status of all components.
func ComponentStatuses(all []component.Status) []*apiv1.ComponentStatus {
	out := make([]*apiv1.ComponentStatus, len(all))
	for i, s := range all {
		out[i] = componentStatus(s)
	}
	return out
}

func componentStatus(s component.Status) *apiv1.ComponentStatus {
	out := &apiv1.ComponentStatus{
		Name: s.Name, Command: s.Command, State: string(s.State), Detail: s.Detail, Since: stamp(s.Since), StartedAt: stamp(s.StartedAt),
		Ready: s.Ready, Pid: int32(s.PID), Instance: int32(s.Instance), Adopted: s.Adopted, Restarts: int32(s.Restarts), Required: s.Required,
		Activation: activation(s), Survive: "restart", DependsOn: s.DependsOn, RequiresReady: s.RequiresReady, Readiness: s.Readiness,
		Users: int32(s.Users), RetryAt: stamp(s.RetryAt), Cgroup: s.Cgroup, CgroupRefused: s.CgroupRefused,
		LogLines: s.Lines, DroppedLogLines: s.DroppedLines,
	}
	if s.Survives {
		out.Survive = "adopt"
	}
	if !s.LastProbe.At.IsZero() {
		out.LastProbe = &apiv1.ComponentProbe{At: stamp(s.LastProbe.At), Ok: s.LastProbe.OK, Took: durationpb.New(s.LastProbe.Took), Error: s.LastProbe.Error}
	}
	if e := s.LastError; e != nil {
		out.LastError = &apiv1.ComponentError{Reason: e.Reason, Message: e.Message, Remedy: e.Remedy, At: stamp(s.LastErrorAt)}
	}
	if s.Cgroup != "" {
		out.Limits = &apiv1.ComponentLimits{Memory: s.Limits.Memory, Pids: int64(s.Limits.PIDs), Cpus: s.Limits.CPUs}
		out.Usage = &apiv1.ComponentUsage{
			Memory: s.Usage.Memory, MemoryPeak: s.Usage.MemoryPeak, OomKills: s.Usage.OOMKills, Pids: s.Usage.PIDs, Cpu: durationpb.New(s.Usage.CPU),
		}
	}
	if b := s.Sandbox; b.Profile != "" {
		out.Sandbox = &apiv1.ComponentSandbox{Profile: b.Profile, Level: b.Level, Layers: b.Layers, Refused: b.Refused}
	}
	return out
}

func activation(s component.Status) string {
	if s.OnDemand {
		return "on_demand"
	}
	return "always"
}
