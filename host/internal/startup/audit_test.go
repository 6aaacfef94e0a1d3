package startup

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// What a host does is recorded, the log verifies while it runs and after it has
// ended, on an export too, and a change of the file is found.
func TestAuditTrail(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	<-s.scans
	s.await("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	s.configure("plugin {")
	s.await("refused", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })
	s.configure("plugin \"detector\" \"off\" {\n enabled = false\n}\n")
	s.configure("")
	s.await("taken over", func(st *apiv1.Status) bool {
		return st.GetLastReload().GetOk() && st.GetLastReload().GetTrigger() != "start"
	})
	client := apiv1connect.NewAuditClient(s.http(), "http://sop")
	if _, err := apiv1connect.NewPluginClient(s.http(), "http://sop").RestartPlugin(t.Context(), connect.NewRequest(&apiv1.RestartPluginRequest{Id: "detector.words"})); err != nil {
		t.Fatal(err)
	}
	awaitRecord(t, client, "plugin.retire")
	verdict, err := client.Verify(t.Context(), connect.NewRequest(&apiv1.VerifyRequest{}))
	if err != nil || !verdict.Msg.GetOk() {
		t.Fatal(verdict, err)
	}
	signed, err := client.Checkpoint(t.Context(), connect.NewRequest(&apiv1.CheckpointRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(s.dir, "note")
	if err := os.WriteFile(note, []byte(signed.Msg.GetCheckpoint().GetNote()), 0o600); err != nil {
		t.Fatal(err)
	}
	export := exported(t, client)
	s.end()

	data := filepath.Join(s.dir, "data")
	result, err := VerifyAudit(t.Context(), AuditVerification{DataDir: data, Checkpoints: []string{note}})
	if err != nil || !result.GetOk() || result.GetSigned() != result.GetRecords() {
		t.Fatalf("after the end: %v, %v", result, err)
	}
	file := filepath.Join(s.dir, "export.jsonl")
	verification := AuditVerification{Export: file, Key: signed.Msg.GetCheckpoint().GetPublicKey(), Checkpoints: []string{note}}
	for _, tt := range []struct {
		text string
		bad  int64
	}{{export, 0}, {strings.Replace(export, `"actor":"host"`, `"actor":"hose"`, 1), 1}, {export[strings.Index(export, "\n")+1:], 1}} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if result, err := VerifyAudit(t.Context(), verification); err != nil || result.GetFault().GetSeq() != tt.bad {
			t.Errorf("want %d: %v, %v", tt.bad, result, err)
		}
	}
	wantActions(t, export)
}

// awaitRecord waits for a record that passes through the queue of facts.
func awaitRecord(t *testing.T, client apiv1connect.AuditClient, action string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := client.WatchRecords(ctx, connect.NewRequest(&apiv1.WatchRecordsRequest{Filter: &apiv1.AuditFilter{Action: action}}))
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	cancel()
	_ = stream.Close() // says that it was cancelled
}

func exported(t *testing.T, client apiv1connect.AuditClient) string {
	t.Helper()
	stream, err := client.ExportRecords(t.Context(), connect.NewRequest(&apiv1.ExportRecordsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for stream.Receive() {
		text.WriteString(stream.Msg().GetText())
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func wantActions(t *testing.T, export string) {
	t.Helper()
	lines := strings.Split(export, "\n")
	for _, want := range [][]string{
		{`"actor":"host"`, `"action":"host.start"`, `"version":"test"`},
		{`"action":"plugin.start"`, `"resource":"plugin/detector.words"`, `"outcome":"success"`},
		{`"action":"config.reload"`, `"outcome":"failure"`, `"trigger":"file change"`},
		{`"action":"config.reload"`, `"outcome":"success"`},
		{`"action":"gap.scan"`, `"resource":"workspace/main"`, `"opened":"1"`},
		{`"action":"access.plugin.restart"`, `"actor":"uid:`, `"request_id":"`},
		{`"action":"plugin.retire"`, `"resource":"plugin/detector.words"`},
		{`"action":"access.audit.export"`},
	} {
		found := slices.ContainsFunc(lines, func(line string) bool {
			return !slices.ContainsFunc(want, func(part string) bool { return !strings.Contains(line, part) })
		})
		if !found {
			t.Errorf("there is no record with %v in\n%s", want, export)
		}
	}
}
