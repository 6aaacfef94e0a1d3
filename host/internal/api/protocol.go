package api

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/protocol"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// protocolService serves sop.api.v1.Protocol.
type protocolService struct{ *nexus.Nexus }

// ListProtocols implements the rpc.
func (s *protocolService) ListProtocols(ctx context.Context, req *connect.Request[apiv1.ListProtocolsRequest]) (*connect.Response[apiv1.ListProtocolsResponse], error) {
	items, next, total, err := protocolList.page(s.Protocols.List(ctx), req.Msg)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListProtocolsResponse{NextPageToken: next, Total: int64(total)}
	for _, p := range items {
		resp.Protocols = append(resp.Protocols, ProtocolStatus(p))
	}
	return connect.NewResponse(resp), nil
}

var protocolList = listing[*protocol.Status]{
	usual: "name",
	fields: filter.Schema{
		{Name: "name", Kind: filter.Text},
		{Name: "state", Kind: filter.Text},
		{Name: "mode", Kind: filter.Text},
		{Name: "activation", Kind: filter.Text},
		{Name: "since", Kind: filter.Time},
		{Name: "in_flight", Kind: filter.Number},
		{Name: "calls", Kind: filter.Number},
		{Name: "failures", Kind: filter.Number},
	},
	value: func(p *protocol.Status, field string) filter.Value {
		if text, ok := map[string]string{
			"name": p.Name, "state": string(p.State), "mode": string(p.Mode), "activation": string(p.Activation),
		}[field]; ok {
			return filter.Value{Text: text}
		}
		return filter.Value{Number: map[string]int64{
			"since": p.Since.UnixNano(), "in_flight": int64(p.InFlight), "calls": p.Calls, "failures": p.Failures,
		}[field]}
	},
}

// ProtocolStatus converts how a protocol stands.
func ProtocolStatus(p *protocol.Status) *apiv1.ProtocolStatus {
	out := &apiv1.ProtocolStatus{
		Name: p.Name, State: string(p.State), Mode: string(p.Mode), Wanted: string(p.Wanted), Since: stamp(p.Since), By: p.By, Reason: p.Why,
		Activation: string(p.Activation), DependsOn: p.DependsOn, InFlight: int64(p.InFlight), Waiting: int64(p.Waiting),
		Calls: p.Calls, Failures: p.Failures, Refused: p.Refused, LastCall: stamp(p.LastCall),
		Detail: p.Detail, Operations: p.Operations, Counters: p.Counters,
	}
	if p.Error != nil {
		out.Error, out.Remedy = p.Error.Message, p.Error.Remedy
	}
	switch {
	case p.Tested:
		out.SelfTest = "passed"
	case p.HasTest:
		out.SelfTest = "not passed"
	}
	return out
}

// CallProtocol implements the rpc.
func (s *protocolService) CallProtocol(ctx context.Context, req *connect.Request[apiv1.CallProtocolRequest]) (*connect.Response[apiv1.CallProtocolResponse], error) {
	m := req.Msg
	call := &nexus.ProtocolCall{
		Protocol: m.GetProtocol(), Operation: m.GetOperation(), Payload: []byte(m.GetPayload()), Timeout: m.GetTimeout().AsDuration(),
		Context: m.GetContext(), Token: m.GetToken(),
	}
	if m.GetValidateOnly() {
		return connect.NewResponse(&apiv1.CallProtocolResponse{}), s.CheckProtocolCall(ctx, call)
	}
	result, out, err := s.Nexus.CallProtocol(ctx, call)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.CallProtocolResponse{Result: string(result), RequestId: out.RequestID, Took: durationpb.New(out.Took)}), nil
}

// StreamProtocol implements the rpc.
func (s *protocolService) StreamProtocol(ctx context.Context, req *connect.Request[apiv1.StreamProtocolRequest], stream *connect.ServerStream[apiv1.StreamProtocolResponse]) error {
	m := req.Msg
	call := &nexus.ProtocolCall{
		Protocol: m.GetProtocol(), Operation: m.GetOperation(), Payload: []byte(m.GetPayload()), Timeout: m.GetTimeout().AsDuration(),
		Context: m.GetContext(), Token: m.GetToken(), Key: m.GetIdempotencyKey(),
	}
	if m.GetValidateOnly() {
		return s.CheckProtocolCall(ctx, call)
	}
	return s.Nexus.StreamProtocol(ctx, call, func(piece []byte) error {
		return stream.Send(&apiv1.StreamProtocolResponse{Piece: string(piece)})
	})
}

// ActivateProtocol implements the rpc.
func (s *protocolService) ActivateProtocol(ctx context.Context, req *connect.Request[apiv1.ActivateProtocolRequest]) (*connect.Response[apiv1.ActivateProtocolResponse], error) {
	mode := protocol.Mode(req.Msg.GetMode())
	if mode != "" && mode != protocol.Active && mode != protocol.Passive {
		return nil, sdk.Errorf(codes.InvalidArgument, protocol.ReasonMode, "there is no mode %q to activate a protocol in", mode).
			WithRemedy("name active or passive").WithField("mode", "")
	}
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.ActivateProtocolResponse{}), s.Protocols.CheckActivate(req.Msg.GetName())
	}
	p, err := s.Protocols.Activate(ctx, req.Msg.GetName(), mode, by(ctx))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ActivateProtocolResponse{Protocol: ProtocolStatus(p)}), nil
}

// DeactivateProtocol implements the rpc.
func (s *protocolService) DeactivateProtocol(ctx context.Context, req *connect.Request[apiv1.DeactivateProtocolRequest]) (*connect.Response[apiv1.DeactivateProtocolResponse], error) {
	if req.Msg.GetValidateOnly() {
		return connect.NewResponse(&apiv1.DeactivateProtocolResponse{}), s.Protocols.CheckDeactivate(req.Msg.GetName())
	}
	p, err := s.Protocols.Deactivate(ctx, req.Msg.GetName(), by(ctx), req.Msg.GetReason())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.DeactivateProtocolResponse{Protocol: ProtocolStatus(p)}), nil
}

// CallProtocol implements the rpc of sop.plugin.v1.Host.
func (s *pluginHost) CallProtocol(ctx context.Context, req *connect.Request[pluginv1.CallProtocolRequest]) (*connect.Response[pluginv1.CallProtocolResponse], error) {
	m := req.Msg
	result, out, err := s.Nexus.CallProtocol(ctx, &nexus.ProtocolCall{
		Protocol: m.GetProtocol(), Operation: m.GetOperation(), Payload: m.GetPayload(), Token: m.GetToken(),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pluginv1.CallProtocolResponse{Result: result, RequestId: out.RequestID}), nil
}
