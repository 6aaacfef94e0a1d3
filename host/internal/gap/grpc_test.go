package gap_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/workspace"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

// sdkTODOs is the honest detector as a plugin author writes it.
type sdkTODOs struct{ incremental *bool }

func (sdkTODOs) Rules(context.Context) ([]*pluginv1.Rule, error) {
	return []*pluginv1.Rule{todoRule}, nil
}

func (d sdkTODOs) Scan(ctx context.Context, s *detector.Scan) error {
	*d.incremental = s.Incremental()
	return s.Each(ctx, func(detector.File) bool { return true }, func(src *detector.Source) error {
		for i, l := range strings.Split(string(src.Content), "\n") {
			if strings.Contains(l, "TODO") {
				src.Report(&pluginv1.Finding{Rule: "todo", Message: "TODO comment", Location: &pluginv1.Location{Line: int32(i + 1)}})
			}
		}
		return nil
	})
}

// remote is a detector behind a gRPC connection.
type remote struct {
	client     pluginv1.DetectorClient
	generation string
}

func (r *remote) Name() string       { return "remote" }
func (r *remote) Version() string    { return "1" }
func (r *remote) Generation() string { return r.generation }
func (r *remote) Volatile() bool     { return false }

func (r *remote) Rules(ctx context.Context) ([]*pluginv1.Rule, error) {
	answer, err := r.client.ListRules(ctx, &pluginv1.ListRulesRequest{})
	return answer.GetRules(), err
}

func (r *remote) Scan(ctx context.Context) (gap.Stream, error) { return r.client.Scan(ctx) }

// serve serves impl over gRPC in this process.
func serve(t *testing.T, impl detector.Detector) *remote {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	detector.Kind.Register(server, impl)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///plugin", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closed := conn.Close()
		server.Stop()
		if err := errors.Join(closed, <-served); err != nil {
			t.Error(err)
		}
	})
	return &remote{client: detector.Kind.NewClient(conn), generation: "1"}
}

// TestAgainstTheSDK scans a real tree with a detector that the SDK serves.
func TestAgainstTheSDK(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	write("a.go", body)
	write("sub/b.go", body)
	walker, err := workspace.NewWalker(root, workspace.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil, gap.ScanOptions{})
	var incremental bool
	d := serve(t, sdkTODOs{&incremental})
	scan := func() *gap.ScanResult {
		t.Helper()
		result, err := r.scanner.Scan(t.Context(), gap.Target{Workspace: "w", Walker: walker, Detectors: []gap.Detector{d}})
		if err != nil || !result.Complete {
			t.Fatal(err, result)
		}
		return result
	}
	r.want(scan(), 4, 0, 0, 0)
	if incremental {
		t.Error("the first scan was incremental")
	}
	write("sub/b.go", strings.Replace(body, "// TODO: one", "", 1))
	r.want(scan(), 0, 0, 1, 3)
	if !incremental {
		t.Error("the second scan was not incremental")
	}
	if err := os.Rename(filepath.Join(root, "a.go"), filepath.Join(root, "c.go")); err != nil {
		t.Fatal(err)
	}
	r.want(scan(), 0, 0, 0, 3)

	// Another process under the same generation holds nothing and says so.
	d.client = serve(t, sdkTODOs{&incremental}).client
	write("sub/b.go", "package sub\n")
	r.want(scan(), 0, 0, 1, 2)
	if incremental {
		t.Error("a detector that holds nothing was sent a delta")
	}
	r.want(scan(), 0, 0, 0, 2)
}
