package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// about says whether r names the payload m.
func about(t *testing.T, r *audit.Record, m proto.Message) bool {
	t.Helper()
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	return r.Attributes[audit.AttributePayloadSum] == hex.EncodeToString(sum[:]) && r.Attributes[audit.AttributePayloadSize] == strconv.Itoa(len(text))
}

// Every record about a call names its message by hash and size: that of a call
// and of a stream, permitted and refused.
func TestPayloadsAreRecorded(t *testing.T) {
	log := &fakeLog{}
	calls := serveWith(t, &fakes{}, log)
	client := apiv1connect.NewAuditClient(calls, "http://sop")
	signing := &apiv1.CheckpointRequest{IdempotencyKey: "k1"}
	if _, err := client.Checkpoint(t.Context(), connect.NewRequest(signing)); err != nil {
		t.Fatal(err)
	}
	export := &apiv1.ExportRecordsRequest{Format: "cef"}
	stream, err := client.ExportRecords(t.Context(), connect.NewRequest(export))
	if err != nil {
		t.Fatal(err)
	}
	for stream.Receive() { // the message reached the handler
		if !strings.HasPrefix(stream.Msg().GetText(), "CEF:") {
			t.Errorf("got %q", stream.Msg().GetText())
		}
	}
	if err := errors.Join(stream.Err(), stream.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ListRecords(t.Context(), connect.NewRequest(&apiv1.ListRecordsRequest{})); err != nil {
		t.Fatal(err)
	}
	all := log.all()
	if len(all) != 2 || !about(t, all[0], signing) || !about(t, all[1], export) {
		t.Errorf("records %+v", all)
	}
}

// A refused token is recorded with what was asked.
func TestPayloadsOfTokens(t *testing.T) {
	client, log := serveTokensWithLog(t)
	use := &apiv1.ConsumeTokenRequest{Secret: "none", Use: &apiv1.TokenUse{Operation: "op"}}
	if _, err := client.ConsumeToken(t.Context(), connect.NewRequest(use)); err == nil {
		t.Fatal("no token was consumed")
	}
	check := &apiv1.ValidateTokenRequest{Secret: "none", Use: &apiv1.TokenUse{Operation: "op"}}
	if _, err := client.ValidateToken(t.Context(), connect.NewRequest(check)); err == nil {
		t.Fatal("no token is valid")
	}
	all := log.all()
	if len(all) != 2 || !about(t, all[0], use) || !about(t, all[1], check) {
		t.Errorf("records %+v", all)
	}
}

// What a plugin asks of the host is recorded with its message, and it cannot say
// that it asked for something else.
func TestPayloadsOfPlugins(t *testing.T) {
	log := &fakeLog{}
	client, secret := pluginHostClient(t, &nexus.Nexus{Audit: log}, "detector.x", "audit.append")
	for _, m := range []*pluginv1.AppendAuditRequest{
		{Token: secret, Action: "prune", Resource: "r", Outcome: "success", Attributes: map[string]string{audit.AttributePayloadSum: "forged"}},
		{Token: "none", Action: "prune", Resource: "r", Outcome: "success"},
	} {
		before := len(log.all())
		_, err := client.AppendAudit(t.Context(), connect.NewRequest(m))
		if (err == nil) != (m.GetToken() != "none") {
			t.Fatal(err)
		}
		made := log.all()[before:]
		if len(made) != 2 {
			t.Errorf("%d records", len(made))
		}
		for _, r := range made {
			if !about(t, r, m) {
				t.Errorf("record %+v", r)
			}
		}
	}
}

// secretFields are the fields of requests that hold a secret, and what says that
// it cannot be guessed from a hash: all are secrets of tokens.
var secretFields = map[protoreflect.FullName]bool{
	"sop.api.v1.IssueChildTokenRequest.secret":      true,
	"sop.api.v1.ValidateTokenRequest.secret":        true,
	"sop.api.v1.ConsumeTokenRequest.secret":         true,
	"sop.api.v1.CallProtocolRequest.token":          true,
	"sop.api.v1.StreamProtocolRequest.token":        true,
	"sop.plugin.v1.CallProtocolRequest.token":       true,
	"sop.api.v1.HeartbeatTaskRequest.token":         true,
	"sop.api.v1.SubmitTaskRequest.token":            true,
	"sop.api.v1.GiveUpTaskRequest.token":            true,
	"sop.api.v1.GetTaskVerdictRequest.token":        true,
	"sop.plugin.v1.ReportGapRequest.token":          true,
	"sop.plugin.v1.RequestMaintenanceRequest.token": true,
	"sop.plugin.v1.AppendAuditRequest.token":        true,
	"sop.plugin.v1.ReadScaffoldRequest.token":       true,
}

// A request that has another secret than that of a token must not be hashed as
// it is: whoever adds one decides here what becomes of it.
func TestSecretsInRequestsCannotBeGuessed(t *testing.T) {
	name := regexp.MustCompile(`secret|password|passphrase|credential|private|_key$|^key$|token$|bearer|pin$`)
	harmless := []protoreflect.Name{"idempotency_key", "page_token"}
	// An idempotency key as well, of the call that is watched.
	keys := []protoreflect.FullName{"sop.api.v1.WatchBackupProgressRequest.key", "sop.api.v1.DiffBackupRequest.progress_key"}
	found := make(map[protoreflect.FullName]bool)
	var look func(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool)
	look = func(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) {
		if seen[m.FullName()] {
			return
		}
		seen[m.FullName()] = true
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if f.Kind() == protoreflect.MessageKind {
				look(f.Message(), seen)
			} else if name.MatchString(string(f.Name())) && !f.ContainingMessage().IsMapEntry() && !slices.Contains(harmless, f.Name()) && !slices.Contains(keys, f.FullName()) {
				found[f.FullName()] = true
			}
		}
	}
	requests := func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				look(methods.Get(j).Input(), make(map[protoreflect.FullName]bool))
			}
		}
		return true
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("sop.api.v1", requests)
	requests(pluginv1.File_sop_plugin_v1_host_proto)
	if !maps.Equal(found, secretFields) {
		t.Errorf("secrets in requests: %v, want %v", slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(secretFields)))
	}
}
