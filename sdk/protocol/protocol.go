// Package protocol is what a protocol plugin implements: the connection to a
// peer in the stack, such as ARP, SCP or UIP.
package protocol

import (
	"context"

	"google.golang.org/grpc"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Protocol speaks to one peer. Payloads and results are JSON.
type Protocol interface {
	// Activate takes the peer into service and returns the mode it is in.
	Activate(ctx context.Context, req *pluginv1.ActivateRequest) (*pluginv1.ActivateResponse, error)
	// Deactivate returns after the calls in flight have ended.
	Deactivate(ctx context.Context, req *pluginv1.DeactivateRequest) (*pluginv1.DeactivateResponse, error)
	// Handle runs one operation; an unknown one fails with UNIMPLEMENTED.
	Handle(ctx context.Context, call *pluginv1.Call) (result []byte, err error)
	// HandleStream runs one operation whose result comes in pieces. send fails
	// when the host has gone away.
	HandleStream(ctx context.Context, call *pluginv1.Call, send func(chunk []byte) error) error
	// Status says how the peer stands; it answers at once.
	Status(ctx context.Context, req *pluginv1.StatusRequest) (*pluginv1.StatusResponse, error)
}

// Kind is the protocol kind.
var Kind = sdk.Kind[Protocol, pluginv1.ProtocolClient]{
	Name: "protocol",
	Register: func(s grpc.ServiceRegistrar, impl Protocol) {
		pluginv1.RegisterProtocolServer(s, &server{Protocol: impl})
	},
	NewClient: pluginv1.NewProtocolClient,
}

// server puts a Protocol on the wire.
type server struct {
	pluginv1.UnsafeProtocolServer
	Protocol
}

// Handle implements [pluginv1.ProtocolServer].
func (s *server) Handle(ctx context.Context, req *pluginv1.HandleRequest) (*pluginv1.HandleResponse, error) {
	result, err := s.Protocol.Handle(ctx, req.GetCall())
	if err != nil {
		return nil, err
	}
	return &pluginv1.HandleResponse{Result: result}, nil
}

// HandleStream implements [pluginv1.ProtocolServer].
func (s *server) HandleStream(req *pluginv1.HandleStreamRequest, stream grpc.ServerStreamingServer[pluginv1.HandleStreamResponse]) error {
	return s.Protocol.HandleStream(stream.Context(), req.GetCall(), func(chunk []byte) error {
		return stream.Send(&pluginv1.HandleStreamResponse{Chunk: chunk})
	})
}
