package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/policy"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

// livePolicy holds one policy file.
func livePolicy(t *testing.T, text string) *policy.Live {
	t.Helper()
	set, diags := policy.Parse("/etc/sop/policies", []policy.File{{Name: "/etc/sop/policies/own.cedar", Text: []byte(text)}})
	if set == nil {
		t.Fatal(diags)
	}
	live := &policy.Live{}
	live.Replace(set)
	return live
}

const ownPolicies = `
@id("all")
permit (principal, action, resource);

@id("docs-stays")
forbid (principal, action == Action::"plugin.restart", resource == Plugin::"detector.docs");

@id("no-suppression")
forbid (principal, action == Action::"gap.suppress", resource)
unless { principal in Group::"leads" };
`

// The denial and the record name what decided.
func TestPolicyDecides(t *testing.T) {
	log := &fakeLog{}
	n := &nexus.Nexus{Audit: log, Policy: livePolicy(t, ownPolicies), Logger: hclog.NewNullLogger()}
	plain := nexus.Caller{Name: "bot", Trust: nexus.Exterior, Method: "key"}
	lead := plain
	lead.Groups = []string{"leads"}
	docs := pluginResource("detector.docs")
	tests := []struct {
		who        nexus.Caller
		permission string
		on         policy.Resource
		reason     string // empty: permitted
		by         string
	}{
		{plain, "gap.reopen", policy.TheHost(), "", "all (own.cedar:2)"},
		{plain, "gap.suppress", policy.TheHost(), nexus.ReasonForbidden, "no-suppression (own.cedar:8)"},
		{lead, "gap.suppress", policy.TheHost(), "", "all (own.cedar:2)"},
		{lead, "plugin.restart", docs, nexus.ReasonForbidden, "docs-stays (own.cedar:5)"},
		{lead, "plugin.restart", pluginResource("detector.code"), "", "all (own.cedar:2)"},
		{lead, "plugin.unheard", policy.TheHost(), nexus.ReasonPolicyError, ""},
		{lead, "patch.approve", policy.TheHost(), nexus.ReasonPolicyError, ""},
	}
	for _, tt := range tests {
		err := n.AuthorizeOn(nexus.WithCaller(t.Context(), tt.who), tt.permission, tt.on, nil)
		all := log.all()
		r := all[len(all)-1]
		if r.Attributes["policy"] != tt.by || r.Action != "access."+tt.permission {
			t.Errorf("%s by %s: recorded %+v", tt.permission, tt.who.Name, r)
		}
		if on := r.Attributes["on"]; (on != "") != (tt.on.Type == policy.TypePlugin) {
			t.Errorf("%s: recorded on %q", tt.permission, on)
		}
		if tt.reason == "" {
			if err != nil {
				t.Errorf("%s by %s: %v", tt.permission, tt.who.Name, err)
			}
			continue
		}
		e := sdk.FromError(err)
		if e == nil || e.Code != codes.PermissionDenied || e.Reason != tt.reason || e.Remedy == "" || !strings.Contains(e.Message, tt.by) || r.Reason != tt.reason {
			t.Errorf("%s by %s: %+v", tt.permission, tt.who.Name, e)
		}
	}
}

// Strangers on the socket are exterior agents: they see the status, can use what
// tokens they were given, and nothing else.
func TestStrangersUnderTheDefaultPolicies(t *testing.T) {
	n := &nexus.Nexus{Audit: &fakeLog{}, Logger: hclog.NewNullLogger()}
	ctx := nexus.WithCaller(t.Context(), nexus.PeerCaller(54321, 7))
	for _, permission := range []string{"host.status", "token.validate", "token.consume", "token.delegate"} {
		if err := n.Authorize(ctx, permission); err != nil {
			t.Errorf("%s: %v", permission, err)
		}
	}
	for _, permission := range []string{"host.read", "host.reload", "token.issue", "token.read", "gap.read", "audit.read", "policy.read", "plugin.restart"} {
		err := sdk.FromError(n.Authorize(ctx, permission))
		if err == nil || err.Reason != nexus.ReasonNotPermitted || !strings.Contains(err.Remedy, "as root") {
			t.Errorf("%s: %+v", permission, err)
		}
	}
}

func TestPolicyOverTheSocket(t *testing.T) {
	live := livePolicy(t, ownPolicies)
	path := filepath.Join(t.TempDir(), "sop.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(&nexus.Nexus{Policy: live, Plugins: &fakes{plugins: []plugin.Status{{ID: "detector.docs"}}}, Audit: &fakeLog{}, Logger: hclog.NewNullLogger()})
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, path) }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := errors.Join(server.Shutdown(context.WithoutCancel(t.Context())), <-done); err != nil {
			t.Error(err)
		}
	})
	httpClient := &http.Client{Transport: transport}
	client := apiv1connect.NewPolicyClient(httpClient, "http://sop")

	list, err := client.ListPolicies(t.Context(), connect.NewRequest(&apiv1.ListPoliciesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if p := list.Msg.GetPolicies(); len(p) != 3 || p[1].GetId() != "docs-stays" || p[1].GetFile() != "own.cedar" || p[1].GetLine() != 5 || p[1].GetEffect() != "forbid" || list.Msg.GetSource() != "/etc/sop/policies" {
		t.Errorf("list: %v", list.Msg)
	}
	schema, err := client.GetSchema(t.Context(), connect.NewRequest(&apiv1.GetSchemaRequest{}))
	if err != nil || schema.Msg.GetSchema() != policy.Schema() {
		t.Errorf("schema: %v", err)
	}
	explain := func(in *apiv1.ExplainRequest) (*apiv1.ExplainResponse, error) {
		answer, err := client.Explain(t.Context(), connect.NewRequest(in))
		if err != nil {
			return nil, err
		}
		return answer.Msg, nil
	}
	answer, err := explain(&apiv1.ExplainRequest{
		Principal: &apiv1.PolicyPrincipal{Name: "bot"}, Action: "plugin.restart",
		Resource: &apiv1.PolicyResource{Entity: `Plugin::"detector.docs"`, Attributes: map[string]string{"kind": "detector"}},
	})
	if err != nil || answer.GetAllow() || len(answer.GetPolicies()) != 1 || !strings.Contains(answer.GetPolicies()[0].GetText(), "forbid (principal") {
		t.Errorf("explain: %v, %v", answer, err)
	}
	for says, in := range map[string]*apiv1.ExplainRequest{
		`Did you mean "gap.read"`: {Principal: &apiv1.PolicyPrincipal{Name: "bot"}, Action: "gap.raed"},
		"as system or as":         {Principal: &apiv1.PolicyPrincipal{Name: "bot", Trust: "much"}, Action: "gap.read"},
		"names no entity":         {Principal: &apiv1.PolicyPrincipal{Name: "bot"}, Action: "gap.read", Resource: &apiv1.PolicyResource{Entity: "Gap"}},
		"nobody asks":             {Action: "gap.read"},
	} {
		if _, err := explain(in); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q: %v", says, err)
		}
	}
	// The door asks about the one plugin that the request names, and by what is in force now.
	restart := func() error {
		_, err := apiv1connect.NewPluginClient(httpClient, "http://sop").RestartPlugin(t.Context(), connect.NewRequest(&apiv1.RestartPluginRequest{Id: "detector.docs"}))
		return err
	}
	if err := restart(); connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), "docs-stays") {
		t.Errorf("restart: %v", err)
	}
	live.Replace(policy.Default())
	if err := restart(); connect.CodeOf(err) != connect.CodeNotFound { // as the fake answers
		t.Errorf("restart under other policies: %v", err)
	}
	if !slices.Contains(policy.Actions(), "plugin.restart") {
		t.Error("the schema has lost an action")
	}
}
