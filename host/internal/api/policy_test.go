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

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/config"
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

// What the host knows of the agent and of the patch is asked about as the door would,
// and a denial's remedy asks the same again.
func TestExplainFillsIn(t *testing.T) {
	n := newIntegrating(t)
	n.Policy = livePolicy(t, `
@id("all") permit (principal, action, resource) when { principal.trust == "system" };
@id("builders") permit (principal in Group::"builders", action == Action::"task.claim", resource);
@id("not-own") forbid (principal, action == Action::"patch.approve", resource is Patch) when { resource.proposer == principal };
@id("own-tree") permit (principal, action == Action::"patch.deny", resource in Workspace::"w") when { principal.method == "key" };
`)
	n.Agents = enrolled{byName: map[string]*agent.Agent{"worker": {Name: "worker", Trust: "exterior", Groups: []string{"builders"}}}}
	p := n.propose(t, "a", "worker")
	ids := NewIdentities(&config.Config{Agents: []config.Agent{{Name: "alice", Trust: "system", UIDs: []uint32{7}}}}, nil, nil)
	s := &policyService{n.Nexus, func() *Identities { return ids }}
	patch := `Patch::"` + p.ID + `"`
	for name, c := range map[string]struct {
		who      *apiv1.PolicyPrincipal
		action   string
		resource *apiv1.PolicyResource
		by       string // the policy that decides; empty: none
	}{
		"enrolled":         {&apiv1.PolicyPrincipal{Name: "worker"}, "task.claim", nil, "builders"},
		"other groups":     {&apiv1.PolicyPrincipal{Name: "worker", Groups: []string{"guests"}}, "task.claim", nil, ""},
		"configured":       {&apiv1.PolicyPrincipal{Name: "alice"}, "agent.revoke", nil, "all"},
		"a uid":            {&apiv1.PolicyPrincipal{Name: "uid:0"}, "agent.revoke", nil, "all"},
		"a stranger":       {&apiv1.PolicyPrincipal{Name: "nobody"}, "agent.revoke", nil, ""},
		"a patch":          {&apiv1.PolicyPrincipal{Name: "worker"}, "patch.approve", &apiv1.PolicyResource{Entity: patch}, "not-own"},
		"its workspace":    {&apiv1.PolicyPrincipal{Name: "worker"}, "patch.deny", &apiv1.PolicyResource{Entity: "Patch::" + p.ID[:9]}, "own-tree"},
		"another proposer": {&apiv1.PolicyPrincipal{Name: "worker"}, "patch.approve", &apiv1.PolicyResource{Entity: patch, Attributes: map[string]string{"proposer": "x"}}, ""},
		"a plugin":         {&apiv1.PolicyPrincipal{Name: "alice"}, "plugin.restart", &apiv1.PolicyResource{Entity: "Plugin::detector.docs"}, "all"},
	} {
		answer, err := s.Explain(t.Context(), connect.NewRequest(&apiv1.ExplainRequest{Principal: c.who, Action: c.action, Resource: c.resource}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var by []string
		for _, p := range answer.Msg.GetPolicies() {
			by = append(by, p.GetId())
		}
		if strings.Join(by, ",") != c.by || answer.Msg.GetByDefault() != (c.by == "") {
			t.Errorf("%s: decided by %q, want %q: asked by %v about %v", name, by, c.by, answer.Msg.GetPrincipal(), answer.Msg.GetResource())
		}
	}
	if _, err := s.Explain(t.Context(), connect.NewRequest(&apiv1.ExplainRequest{Principal: &apiv1.PolicyPrincipal{Name: "worker"}, Action: "patch.approve"})); err == nil || !strings.Contains(sdk.FromError(err).Remedy, "--resource Patch::ID") {
		t.Errorf("a patch that is not named: %v", err)
	}

	refused := func(c nexus.Caller, permission string, on policy.Resource, facts map[string]any) string {
		t.Helper()
		return sdk.FromError(n.AuthorizeOn(nexus.WithCaller(t.Context(), c), permission, on, facts)).Remedy
	}
	on, err := n.PatchResource(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	worker := nexus.Caller{Name: "worker", Trust: nexus.Exterior, Method: nexus.MethodKey, Groups: []string{"builders"}}
	if remedy := refused(worker, "patch.approve", on, nil); !strings.Contains(remedy, "`sop policy explain --principal worker --method key --action patch.approve --resource '"+patch+"'`") {
		t.Errorf("remedy: %s", remedy)
	}
	outside := nexus.Caller{Name: "corp:o'neil", Trust: nexus.Exterior, Method: nexus.MethodOIDC, Groups: []string{"corp:ops"}}
	want := `--principal 'corp:o'\''neil' --method oidc --trust exterior --group corp:ops --action protocol.call --resource 'Protocol::"uip"' --context operation=render --context sandboxed=true` + "`"
	if remedy := refused(outside, "protocol.call", nexus.ProtocolResource("uip"), map[string]any{"operation": "render", "sandboxed": true}); !strings.Contains(remedy, want) {
		t.Errorf("remedy: %s", remedy)
	}
}

// enrolled are agents that are only looked up.
type enrolled struct {
	nexus.Agents
	byName map[string]*agent.Agent
}

func (e enrolled) Get(_ context.Context, name string) (*agent.Agent, error) {
	if a := e.byName[name]; a != nil {
		return a, nil
	}
	return nil, agent.NotFound(name)
}
