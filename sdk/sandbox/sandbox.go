// Package sandbox is what a sandbox plugin implements: it makes a change for a
// task inside an isolated view of a workspace.
package sandbox

import (
	"context"

	"google.golang.org/grpc"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Sandbox generates changes.
type Sandbox interface {
	// Generate works on the task of req until it has a change, gives up or ctx
	// is done, sending progress and output as it goes. The result is required:
	// an error means that the run itself failed. Whatever it started has ended
	// when it returns. send fails when the host has gone away.
	Generate(ctx context.Context, req *pluginv1.GenerateRequest, send func(*pluginv1.GenerateResponse) error) (*pluginv1.GenerateResult, error)
}

// Kind is the sandbox kind.
var Kind = sdk.Kind[Sandbox, pluginv1.SandboxClient]{
	Name:      "sandbox",
	Register:  func(s grpc.ServiceRegistrar, impl Sandbox) { pluginv1.RegisterSandboxServer(s, &server{impl: impl}) },
	NewClient: pluginv1.NewSandboxClient,
}

// server puts a Sandbox on the wire.
type server struct {
	pluginv1.UnimplementedSandboxServer
	impl Sandbox
}

// Generate implements [pluginv1.SandboxServer].
func (s *server) Generate(req *pluginv1.GenerateRequest, stream grpc.ServerStreamingServer[pluginv1.GenerateResponse]) error {
	result, err := s.impl.Generate(stream.Context(), req, stream.Send)
	if err != nil {
		return err
	}
	return stream.Send(&pluginv1.GenerateResponse{Event: &pluginv1.GenerateResponse_Result{Result: result}})
}
