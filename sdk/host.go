package sdk

import (
	"context"
	"fmt"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Host is what a plugin may ask of the host while it serves a call: see
// sop.plugin.v1.Host, and sop.api.v1.Token for what the methods of tokens do.
// [Config.Host] holds it. All methods are safe for concurrent use; a failed one
// returns an [*Error]. With a nil Host, or where the host takes no calls, they
// fail with the reason NO_HOST.
//
// Requests carry the secret of the token that came with the call which the
// plugin is serving, such as a scan's. It is good until that call ends.
type Host struct {
	conn *grpc.ClientConn
}

// dialHost connects to the host; id is what Configure was told, and 0 means
// that there is nobody to connect to. The connection lasts as long as the process.
func dialHost(broker *goplugin.GRPCBroker, id uint32) (*Host, error) {
	if id == 0 || broker == nil {
		return nil, nil
	}
	conn, err := broker.DialWithOptions(id)
	if err != nil {
		return nil, fmt.Errorf("connect to the host: %w", err)
	}
	return &Host{conn}, nil
}

// ReportGap hands over a finding outside of a scan; only detectors do.
func (h *Host) ReportGap(ctx context.Context, req *pluginv1.ReportGapRequest) (*pluginv1.ReportGapResponse, error) {
	return ask(ctx, h, pluginv1.Host_ReportGap_FullMethodName, req, new(pluginv1.ReportGapResponse))
}

// RequestMaintenance asks for a task that repairs a failing subsystem.
func (h *Host) RequestMaintenance(ctx context.Context, req *pluginv1.RequestMaintenanceRequest) (*pluginv1.RequestMaintenanceResponse, error) {
	return ask(ctx, h, pluginv1.Host_RequestMaintenance_FullMethodName, req, new(pluginv1.RequestMaintenanceResponse))
}

// AppendAudit adds a record to the audit trail.
func (h *Host) AppendAudit(ctx context.Context, req *pluginv1.AppendAuditRequest) (*pluginv1.AppendAuditResponse, error) {
	return ask(ctx, h, pluginv1.Host_AppendAudit_FullMethodName, req, new(pluginv1.AppendAuditResponse))
}

// CallProtocol makes a call of another protocol within the call that is being
// served; only protocols do.
func (h *Host) CallProtocol(ctx context.Context, req *pluginv1.CallProtocolRequest) (*pluginv1.CallProtocolResponse, error) {
	return ask(ctx, h, pluginv1.Host_CallProtocol_FullMethodName, req, new(pluginv1.CallProtocolResponse))
}

// ReadScaffold returns a scaffold by name.
func (h *Host) ReadScaffold(ctx context.Context, req *pluginv1.ReadScaffoldRequest) (*pluginv1.ReadScaffoldResponse, error) {
	return ask(ctx, h, pluginv1.Host_ReadScaffold_FullMethodName, req, new(pluginv1.ReadScaffoldResponse))
}

// tokenService is where the host serves tokens, to plugins as to anybody.
const tokenService = "/sop.api.v1.Token/" //nolint:gosec // a path, no credential

// IssueToken makes a token, where policy lets the plugin.
func (h *Host) IssueToken(ctx context.Context, req *apiv1.IssueTokenRequest) (*apiv1.IssueTokenResponse, error) {
	return ask(ctx, h, tokenService+"IssueToken", req, new(apiv1.IssueTokenResponse))
}

// IssueChildToken hands a part of a token on, as to a program that the plugin
// starts.
func (h *Host) IssueChildToken(ctx context.Context, req *apiv1.IssueChildTokenRequest) (*apiv1.IssueChildTokenResponse, error) {
	return ask(ctx, h, tokenService+"IssueChildToken", req, new(apiv1.IssueChildTokenResponse))
}

// ValidateToken says whether a token permits something, and costs no use.
func (h *Host) ValidateToken(ctx context.Context, req *apiv1.ValidateTokenRequest) (*apiv1.ValidateTokenResponse, error) {
	return ask(ctx, h, tokenService+"ValidateToken", req, new(apiv1.ValidateTokenResponse))
}

// ConsumeToken takes one use of a token.
func (h *Host) ConsumeToken(ctx context.Context, req *apiv1.ConsumeTokenRequest) (*apiv1.ConsumeTokenResponse, error) {
	return ask(ctx, h, tokenService+"ConsumeToken", req, new(apiv1.ConsumeTokenResponse))
}

// RenewToken lets a token live longer, where policy lets the plugin.
func (h *Host) RenewToken(ctx context.Context, req *apiv1.RenewTokenRequest) (*apiv1.RenewTokenResponse, error) {
	return ask(ctx, h, tokenService+"RenewToken", req, new(apiv1.RenewTokenResponse))
}

// RevokeToken ends a token, where policy lets the plugin.
func (h *Host) RevokeToken(ctx context.Context, req *apiv1.RevokeTokenRequest) (*apiv1.RevokeTokenResponse, error) {
	return ask(ctx, h, tokenService+"RevokeToken", req, new(apiv1.RevokeTokenResponse))
}

// ListTokens lists tokens, where policy lets the plugin.
func (h *Host) ListTokens(ctx context.Context, req *apiv1.ListTokensRequest) (*apiv1.ListTokensResponse, error) {
	return ask(ctx, h, tokenService+"ListTokens", req, new(apiv1.ListTokensResponse))
}

// GetToken shows a token, where policy lets the plugin.
func (h *Host) GetToken(ctx context.Context, req *apiv1.GetTokenRequest) (*apiv1.GetTokenResponse, error) {
	return ask(ctx, h, tokenService+"GetToken", req, new(apiv1.GetTokenResponse))
}

// ask makes one call and returns resp.
func ask[R proto.Message](ctx context.Context, h *Host, method string, req proto.Message, resp R) (R, error) {
	var none R
	if h == nil || h.conn == nil {
		return none, Errorf(codes.Unavailable, "NO_HOST", "this plugin's host takes no calls").
			WithRemedy("run the plugin in `sop up`; a scan without a host has nobody to ask")
	}
	if err := h.conn.Invoke(ctx, method, req, resp); err != nil {
		return none, FromError(err)
	}
	return resp, nil
}
