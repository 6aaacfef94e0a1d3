package api

import (
	"context"
	"net"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/proto/sop/plugin/v1/pluginv1connect"
	"github.com/sop-host/sop/sdk"
)

// maxPluginStreams bounds the requests of one plugin at a time.
const maxPluginStreams = 32

// ServePlugin serves a plugin on l, which has authenticated it, until l is
// closed: the API, as to any agent, and sop.plugin.v1.Host. All connections are
// closed when it returns.
func (s *Server) ServePlugin(l net.Listener, id string) error {
	server := newHTTPServer(s.plugins, s.logger)
	server.HTTP2.MaxConcurrentStreams = maxPluginStreams
	server.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return nexus.WithCaller(ctx, nexus.PluginCaller(id))
	}
	defer func() { _ = server.Close() }() // its listener is closed
	return server.Serve(l)
}

// pluginHost serves sop.plugin.v1.Host.
type pluginHost struct{ *nexus.Nexus }

// ReportGap implements the rpc.
func (s *pluginHost) ReportGap(ctx context.Context, req *connect.Request[pluginv1.ReportGapRequest]) (*connect.Response[pluginv1.ReportGapResponse], error) {
	workspace := req.Msg.GetWorkspace()
	if _, err := s.UnderToken(ctx, req.Msg.GetToken(), permission(req.Spec()), workspace); err != nil {
		return nil, err
	}
	g, err := s.Workspaces.Report(ctx, by(ctx), workspace, req.Msg.GetFinding())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pluginv1.ReportGapResponse{GapId: g.ID}), nil
}

// AppendAudit implements the rpc.
func (s *pluginHost) AppendAudit(ctx context.Context, req *connect.Request[pluginv1.AppendAuditRequest]) (*connect.Response[pluginv1.AppendAuditResponse], error) {
	m := req.Msg
	outcome, err := outcomeOf(m.GetOutcome())
	if err != nil {
		return nil, err
	}
	if m.GetAction() == "" || m.GetResource() == "" {
		return nil, sdk.Errorf(codes.InvalidArgument, "AUDIT_INCOMPLETE", "a record names an action and a resource").
			WithRemedy("say what was done, and to what")
	}
	accessor, err := s.UnderToken(ctx, m.GetToken(), permission(req.Spec()), m.GetWorkspace())
	if err != nil {
		return nil, err
	}
	err = s.Audit.Append(ctx, audit.Record{
		Actor: by(ctx), Action: "plugin." + m.GetAction(), Resource: m.GetResource(), Outcome: outcome,
		Reason: m.GetReason(), Token: accessor, Attributes: m.GetAttributes(),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pluginv1.AppendAuditResponse{}), nil
}

// ReadScaffold implements the rpc.
func (s *pluginHost) ReadScaffold(ctx context.Context, req *connect.Request[pluginv1.ReadScaffoldRequest]) (*connect.Response[pluginv1.ReadScaffoldResponse], error) {
	m := req.Msg
	if _, err := s.UnderToken(ctx, m.GetToken(), permission(req.Spec()), m.GetWorkspace()); err != nil {
		return nil, err
	}
	found := s.Scaffolds.Get(m.GetName())
	if found == nil {
		return nil, sdk.Errorf(codes.NotFound, "NO_SCAFFOLD", "there is no scaffold %q", m.GetName()).
			WithRemedy("`sop scaffold list` names those that the host has")
	}
	return connect.NewResponse(&pluginv1.ReadScaffoldResponse{Name: found.Name, Version: found.Version, Content: found.Source}), nil
}

var _ pluginv1connect.HostHandler = (*pluginHost)(nil)
