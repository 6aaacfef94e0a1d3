package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reply is what one scan said.
type reply struct {
	findings    []*pluginv1.Finding
	covered     map[string]bool
	diagnostics []*pluginv1.ScanDiagnostic
	summary     *pluginv1.ScanSummary
}

// dial serves a detector in this process.
func dial(t testing.TB, d detector.Detector) pluginv1.DetectorClient {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	detector.Kind.Register(server, d)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		<-done
	})
	return detector.Kind.NewClient(conn)
}

// list names the files beneath root as the host does.
func list(t testing.TB, root string) *pluginv1.ScanFiles {
	t.Helper()
	batch := &pluginv1.ScanFiles{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		rel = filepath.ToSlash(rel)
		batch.Changed = append(batch.Changed, &pluginv1.ScanFile{
			Path: rel, Size: info.Size(), ModifiedUnixNano: info.ModTime().UnixNano(),
			Testdata: slices.Contains(strings.Split(rel, "/"), "testdata"),
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// scan examines root with d.
func scan(t testing.TB, d detector.Detector, root string) *reply {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := dial(t, d).Scan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	files := list(t, root)
	requests := []*pluginv1.ScanRequest{
		{Message: &pluginv1.ScanRequest_Start{Start: &pluginv1.ScanStart{Workspace: "test", Root: root, Revision: "1"}}},
	}
	for batch := range slices.Chunk(files.GetChanged(), 1000) {
		requests = append(requests, &pluginv1.ScanRequest{Message: &pluginv1.ScanRequest_Files{Files: &pluginv1.ScanFiles{Changed: batch}}})
	}
	for _, r := range requests {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	out := &reply{covered: make(map[string]bool)}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out.findings = append(out.findings, r.GetFindings()...)
		out.diagnostics = append(out.diagnostics, r.GetDiagnostics()...)
		for _, c := range r.GetCovered() {
			out.covered[c] = true
		}
		if r.GetSummary() != nil {
			out.summary = r.GetSummary()
		}
	}
}
