// Package plugintest drives plugins in the tests of their authors, through the
// same wire form that the host uses and without a host.
package plugintest

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sop-host/sop/sdk"
)

// serve serves impl in the process of the test and returns a client of it. The
// test ends it.
func serve[T, C any](t testing.TB, kind sdk.Kind[T, C], impl T) C {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	kind.Register(server, impl)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///plugin",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatalf("connect to the plugin: %v", err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close connection: %v", err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve the plugin: %v", err)
		}
	})
	return kind.NewClient(conn)
}
