package api

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/plugin"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
)

// pluginService serves sop.api.v1.Plugin.
type pluginService struct{ *nexus.Nexus }

// ListPlugins implements the rpc.
func (s *pluginService) ListPlugins(context.Context, *connect.Request[apiv1.ListPluginsRequest]) (*connect.Response[apiv1.ListPluginsResponse], error) {
	return connect.NewResponse(&apiv1.ListPluginsResponse{Plugins: PluginStatuses(s.Plugins.Status())}), nil
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
	if err := s.Plugins.Restart(ctx, req.Msg.GetId()); err != nil {
		return nil, err
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
