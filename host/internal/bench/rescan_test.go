package bench

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/api"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// rescan asks the host of a data directory for a scan and waits for it.
func rescan(t *testing.T, dataDir string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return api.Dial(ctx, filepath.Join(dataDir, "state", "sop.sock"))
	}}
	defer transport.CloseIdleConnections()
	client := apiv1connect.NewWorkspaceClient(&http.Client{Transport: transport}, "http://sop")
	resp, err := client.ScanWorkspace(t.Context(), connect.NewRequest(&apiv1.ScanWorkspaceRequest{Workspace: "main"}))
	if err != nil {
		t.Fatal(err)
	}
	if scan := resp.Msg.GetScan(); !scan.GetComplete() || scan.GetOpened() != 0 {
		t.Fatalf("scan: %v", scan)
	}
}
