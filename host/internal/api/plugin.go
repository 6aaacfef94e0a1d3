package api

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/plugin"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// pluginService serves sop.api.v1.Plugin.
type pluginService struct{ *nexus.Nexus }

// ListPlugins implements the rpc.
func (s *pluginService) ListPlugins(_ context.Context, req *connect.Request[apiv1.ListPluginsRequest]) (*connect.Response[apiv1.ListPluginsResponse], error) {
	items, next, total, err := pluginList.page(s.Plugins.Status(), req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ListPluginsResponse{Plugins: PluginStatuses(items), NextPageToken: next, Total: int64(total)}), nil
}

var pluginList = listing[plugin.Status]{
	usual: "id",
	fields: filter.Schema{
		{Name: "id", Kind: filter.Text},
		{Name: "kind", Kind: filter.Text},
		{Name: "name", Kind: filter.Text},
		{Name: "version", Kind: filter.Text},
		{Name: "state", Kind: filter.Text},
		{Name: "since", Kind: filter.Time},
		{Name: "generation", Kind: filter.Number},
		{Name: "restarts", Kind: filter.Number},
		{Name: "calls", Kind: filter.Number},
		{Name: "failures", Kind: filter.Number},
		{Name: "hash", Kind: filter.Text},
	},
	value: func(s plugin.Status, field string) filter.Value {
		if field == "since" {
			return filter.Value{Number: s.Since.UnixNano()}
		}
		if text, ok := map[string]string{
			"id": s.ID, "kind": s.Kind, "name": s.Name, "version": s.Version, "state": string(s.State), "hash": s.Hash,
		}[field]; ok {
			return filter.Value{Text: text}
		}
		return filter.Value{Number: map[string]int64{
			"generation": int64(s.Generation), "restarts": int64(s.Restarts), "calls": s.Calls, "failures": s.Failures,
		}[field]}
	},
}

// GetPlugin implements the rpc.
func (s *pluginService) GetPlugin(_ context.Context, req *connect.Request[apiv1.GetPluginRequest]) (*connect.Response[apiv1.GetPluginResponse], error) {
	status, err := s.find(req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetPluginResponse{Plugin: status}), nil
}

// RestartPlugin implements the rpc.
func (s *pluginService) RestartPlugin(ctx context.Context, req *connect.Request[apiv1.RestartPluginRequest]) (*connect.Response[apiv1.RestartPluginResponse], error) {
	if !req.Msg.GetValidateOnly() {
		if err := s.Plugins.Restart(ctx, req.Msg.GetId()); err != nil {
			return nil, err
		}
	}
	status, err := s.find(req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.RestartPluginResponse{Plugin: status}), nil
}

func (s *pluginService) find(id string) (*apiv1.PluginStatus, error) {
	for _, st := range s.Plugins.Status() {
		if st.ID == id {
			return pluginStatus(st), nil
		}
	}
	return nil, sdk.Errorf(codes.NotFound, plugin.ReasonUnknown, "there is no plugin %q", id).
		WithRemedy("`sop plugin list` names the configured plugins")
}
