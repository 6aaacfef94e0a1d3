package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
	"github.com/sop-host/sop/sdk/plugintest"
)

// clientPlugin makes a client of the detector that is under test elsewhere.
type clientPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (clientPlugin) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error { return nil }

func (clientPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) { //nolint:unparam // go-plugin wants it
	return detector.Kind.NewClient(conn), nil
}

// detectorDocs builds and starts the real detector.
func detectorDocs(t testing.TB) pluginv1.DetectorClient {
	t.Helper()
	program := filepath.Join(t.TempDir(), "detector-docs")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "grammar_subset,grammar_subset_python", "-o", program, "../detector-docs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build detector-docs: %v\n%s", err, out)
	}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: sdk.Handshake, Plugins: goplugin.PluginSet{"detector": clientPlugin{}}, Cmd: exec.Command(program),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(),
	})
	t.Cleanup(client.Kill)
	conn, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := conn.Dispense("detector")
	if err != nil {
		t.Fatal(err)
	}
	return raw.(pluginv1.DetectorClient)
}

// scan returns what the detector finds beneath root.
func scan(t testing.TB, client pluginv1.DetectorClient, root string) *plugintest.Result {
	t.Helper()
	start := &pluginv1.ScanStart{ScanId: "test", Workspace: t.Name(), Root: root, Revision: "1", MaxFileSize: 4 << 20}
	result, err := plugintest.Exchange(t.Context(), client, start, &pluginv1.ScanFiles{Changed: plugintest.Files(t, root)})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// taskOf is the task to close a finding.
func taskOf(f *pluginv1.Finding) map[string]any {
	gap := map[string]any{
		"id": "g1", "rule": f.GetRule(), "type": strings.ToLower(strings.TrimPrefix(f.GetType().String(), "GAP_TYPE_")),
		"path": f.GetLocation().GetPath(), "line": f.GetLocation().GetLine(), "symbol": f.GetLocation().GetSymbol(), "message": f.GetMessage(),
	}
	if p := f.GetProperties(); len(p) > 0 {
		gap["properties"] = p
	}
	return map[string]any{"contract": contract, "id": "t1", "gap": gap, "goal": f.GetRemedy(), "success_criteria": []string{"the gap is gone"}, "seed": 1}
}

// generate runs the plugin on a task.
func generate(t testing.TB, root string, task map[string]any) (*pluginv1.GenerateResult, error) {
	t.Helper()
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	g := newGenerator()
	if err := g.configure(t.Context(), sdk.NewConfig(nil, "")); err != nil {
		t.Fatal(err)
	}
	return g.Generate(t.Context(), &pluginv1.GenerateRequest{TaskJson: text, WorkDir: root}, func(r *pluginv1.GenerateResponse) error {
		if r.GetProgress().GetPhase() == "" {
			t.Errorf("a response without phase: %v", r)
		}
		return nil
	})
}

// fix closes every finding, and returns how many, and why others stay.
func fix(t testing.TB, root string, findings []*pluginv1.Finding) (closed int, stay []string) {
	t.Helper()
	for _, f := range findings {
		result, err := generate(t, root, taskOf(f))
		if err != nil {
			t.Fatalf("%s: %v", describe(f), err)
		}
		if result.GetOutcome() == pluginv1.GenerateResult_OUTCOME_GAVE_UP {
			stay = append(stay, describe(f)+": "+result.GetExplanation())
			continue
		}
		closed++
	}
	return closed, stay
}

func describe(f *pluginv1.Finding) string {
	return fmt.Sprintf("%s:%d %s %s", f.GetLocation().GetPath(), f.GetLocation().GetLine(), f.GetRule(), f.GetLocation().GetSymbol())
}

// write puts files beneath root.
func write(t testing.TB, root, name string, content []byte) {
	t.Helper()
	full := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
