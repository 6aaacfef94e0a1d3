package api

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/token"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/proto/sop/plugin/v1/pluginv1connect"
	"github.com/sop-host/sop/sdk/scaffold"
)

// pluginHostClient serves n, with tokens, to a plugin, and returns the plugin's way to
// it and the secret of a token that permits an operation twice.
func pluginHostClient(t *testing.T, n *nexus.Nexus, id, operation string) (pluginv1connect.HostClient, string) {
	t.Helper()
	n.Tokens = memoryTokens(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.Logger = hclog.NewNullLogger()
	server := NewServer(n)
	done := make(chan error, 1)
	go func() { done <- server.ServePlugin(l, id) }()
	transport := new(http.Transport)
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		closed := l.Close() // which ends the server
		for _, err := range []error{closed, <-done} {
			if err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	})
	secret, _, err := n.Tokens.Issue(t.Context(), token.Spec{
		Type: token.Operation, Protocol: nexus.ProtocolSOP, Requester: nexus.PluginName(id), Operations: []string{operation}, MaxUses: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	return pluginv1connect.NewHostClient(&http.Client{Transport: transport}, "http://"+l.Addr().String()), secret.Reveal()
}

// A record that a plugin appends says what was done, to what, and how it ended; one
// that does not costs no use.
func TestIncompleteRecordOfAPlugin(t *testing.T) {
	log := &fakeLog{}
	client, secret := pluginHostClient(t, &nexus.Nexus{Audit: log}, "detector.x", "audit.append")
	for want, m := range map[string]*pluginv1.AppendAuditRequest{
		"AUDIT_OUTCOME":    {Token: secret, Action: "prune", Resource: "r", Outcome: "fine"},
		"AUDIT_INCOMPLETE": {Token: secret, Action: "prune", Outcome: "success"},
	} {
		_, err := client.AppendAudit(t.Context(), connect.NewRequest(m))
		if got := tokenReason(t, err); got != want {
			t.Errorf("%s in place of %s: %v", got, want, err)
		}
	}
	for range 2 {
		_, err := client.AppendAudit(t.Context(), connect.NewRequest(&pluginv1.AppendAuditRequest{Token: secret, Action: "prune", Resource: "r", Outcome: "failure"}))
		if err != nil {
			t.Error(err)
		}
	}
	if last := log.all()[len(log.all())-1]; last.Action != "plugin.prune" || last.Outcome != "failure" {
		t.Errorf("record %+v", last)
	}
}

// The token of a run is for the task that it works on, which the plugin does not name.
func TestPluginWithinATask(t *testing.T) {
	log := &fakeLog{}
	n := &nexus.Nexus{Audit: log}
	client, _ := pluginHostClient(t, n, "sandbox.x", "audit.append")
	secret, _, err := n.Tokens.Issue(t.Context(), token.Spec{
		Type: token.Todo, Protocol: nexus.ProtocolSOP, Requester: nexus.PluginName("sandbox.x"), Operations: []string{"audit.append"},
		Task: "t", Workspace: "w",
	})
	if err != nil {
		t.Fatal(err)
	}
	record := &pluginv1.AppendAuditRequest{Token: secret.Reveal(), Action: "prune", Resource: "r", Outcome: "success"}
	if _, err := client.AppendAudit(t.Context(), connect.NewRequest(record)); err == nil {
		t.Error("the workspace of the token need not be named")
	}
	record.Workspace = "w"
	if _, err := client.AppendAudit(t.Context(), connect.NewRequest(record)); err != nil {
		t.Error(err)
	}
	if last := log.all()[len(log.all())-1]; last.Action != "plugin.prune" {
		t.Errorf("record %+v", last)
	}
}

// A plugin reads a scaffold under its token, and only one that there is.
func TestReadScaffold(t *testing.T) {
	scaffolds, err := scaffold.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	client, secret := pluginHostClient(t, &nexus.Nexus{Audit: &fakeLog{}, Scaffolds: scaffolds}, "sandbox.x", "scaffold.read")
	read := func(secret, name string) (*pluginv1.ReadScaffoldResponse, error) {
		got, err := client.ReadScaffold(t.Context(), connect.NewRequest(&pluginv1.ReadScaffoldRequest{Token: secret, Name: name}))
		if err != nil {
			return nil, err
		}
		return got.Msg, nil
	}
	got, err := read(secret, "go-doc")
	if err != nil || got.GetVersion() == "" || !bytes.Equal(got.GetContent(), scaffolds.Get("go-doc").Source) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := read(secret, "nothing"); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("one that is not there: %v", err)
	}
	for _, other := range []string{"none", secret} { // which has been used up
		if _, err := read(other, "go-doc"); err == nil {
			t.Errorf("read under the token %.4s", other)
		}
	}
}
