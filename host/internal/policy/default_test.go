package policy

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Every permission that an rpc states is an action of the schema.
func TestSchemaHasEveryPermission(t *testing.T) {
	actions := Actions()
	found := 0
	look := func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				found++
				p, _ := proto.GetExtension(methods.Get(j).Options(), apiv1.E_Permission).(string)
				if !slices.Contains(actions, p) {
					t.Errorf("%s states %q, which is no action: add it to policy.cedarschema, with the groups it is in", methods.Get(j).FullName(), p)
				}
			}
		}
		return true
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("sop.api.v1", look)
	look(pluginv1.File_sop_plugin_v1_host_proto)
	if found < 20 {
		t.Errorf("only %d methods were looked at", found)
	}
}

// What is published is what is enforced.
func TestSchemaIsPublished(t *testing.T) {
	const published = "../../../docs/policy.cedarschema"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(published, []byte(Schema()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(published)
	if err != nil || string(text) != Schema() {
		t.Errorf("docs/policy.cedarschema is not the schema that is enforced (%v): copy it", err)
	}
}

var (
	systemAgent = Agent{Name: "uid:0", Trust: "system", Method: "peer"}
	exterior    = Agent{Name: "bot-7", Trust: "exterior", Method: "key", Groups: []string{"ops"}}
)

func aPatch(proposer string, verified, approved bool) Resource {
	return Resource{Ref: Ref{"Patch", "p1"}, Attributes: map[string]any{
		"proposer": proposer, "verified": verified, "approved": approved, "approvals": 1, "risks": []string{"ci"},
	}}
}

// resourceFor makes a resource of the first type that an action is done on.
func resourceFor(t *testing.T, action string) Resource {
	t.Helper()
	typ := string(theModel().actions[action].resources[0])
	switch typ {
	case TypeHost:
		return TheHost()
	case "Patch":
		return aPatch("somebody", true, true)
	}
	return Resource{Ref: Ref{typ, "own"}}
}

// What each kind of agent may do, cell by cell: every action there is.
func TestDefaultMatrix(t *testing.T) {
	permittedOutside := []string{
		"host.status", "agent.whoami", "token.validate", "token.consume", "token.delegate", "task.heartbeat", "task.submit", "task.status",
	}
	permittedPlugins := append([]string{"gap.report", "maintenance.file", "scaffold.read", "audit.append"}, permittedOutside...)
	for _, action := range Actions() {
		context := map[string]any{}
		if action == "protocol.call" {
			context = map[string]any{"operation": "x", "sandboxed": true}
		}
		if action == "patch.integrate" {
			context["token_type"] = "integration"
		}
		ask := func(who Agent) Decision {
			return Default().Decide(&Request{Principal: who, Action: action, Resource: resourceFor(t, action), Context: context})
		}
		if d := ask(systemAgent); !d.Allow || d.Names() != "system-full (system.cedar:4)" {
			t.Errorf("system agent, %s: %+v", action, d)
		}
		d := ask(exterior)
		if want := slices.Contains(permittedOutside, action); d.Allow != want || d.Default == want || len(d.Errors) > 0 {
			t.Errorf("exterior agent, %s: %+v", action, d)
		}
		d = ask(Agent{Name: "plugin:detector.docs", Trust: "exterior", Method: "plugin"})
		if want := slices.Contains(permittedPlugins, action); d.Allow != want || len(d.Errors) > 0 {
			t.Errorf("plugin, %s: %+v", action, d)
		}
		if d := ask(Agent{Name: "who", Trust: "system", Method: ""}); !d.Allow {
			t.Errorf("trust counts, not method: %+v", d)
		}
	}
}

// The matrix of the protocols beside SOP.
func TestDefaultProtocols(t *testing.T) {
	tests := []struct {
		protocol  string
		who       Agent
		sandboxed bool
		allow     bool
		by        string
	}{
		{"arp", systemAgent, false, true, "system-full"},
		{"arp", systemAgent, true, true, "system-full"},
		{"arp", exterior, false, false, "protocol-arp-system-only"},
		{"arp", exterior, true, false, "protocol-arp-system-only"},
		{"scp", systemAgent, false, true, "system-full"},
		{"scp", exterior, false, false, "protocol-scp-system-only"},
		{"scp", exterior, true, false, "protocol-scp-system-only"},
		{"uip", systemAgent, false, true, "system-full"},
		{"uip", exterior, false, false, ""},
		{"uip", exterior, true, true, "protocol-uip-sandboxed"},
		{"own", systemAgent, false, true, "system-full"},
		{"own", exterior, true, false, ""},
	}
	for _, tt := range tests {
		d := Default().Decide(&Request{
			Principal: tt.who, Action: "protocol.call", Resource: Resource{Ref: Ref{"Protocol", tt.protocol}},
			Context: map[string]any{"operation": "analyze", "sandboxed": tt.sandboxed},
		})
		if d.Allow != tt.allow || !strings.HasPrefix(d.Names(), tt.by) || d.Default != (tt.by == "") {
			t.Errorf("%s by %s, sandboxed %v: %+v %s", tt.protocol, tt.who.Name, tt.sandboxed, d, d.Names())
		}
	}
}

// A protocol may call another where the host has found that it serves a call from
// which the configuration lets it, and not otherwise.
func TestDefaultChains(t *testing.T) {
	uip := Agent{Name: "plugin:protocol.uip", Trust: "exterior", Method: "plugin", Groups: []string{"plugins"}}
	for _, protocol := range []string{"arp", "scp", "own"} {
		ask := func(who Agent, context map[string]any) bool {
			context["operation"], context["sandboxed"] = "recall", false
			d := Default().Decide(&Request{Principal: who, Action: "protocol.call", Resource: Resource{Ref: Ref{"Protocol", protocol}}, Context: context})
			return d.Allow
		}
		if !ask(uip, map[string]any{"chained": true, "origin_trust": "exterior"}) {
			t.Errorf("%s: a chained call is denied", protocol)
		}
		if ask(uip, map[string]any{}) || ask(uip, map[string]any{"chained": false}) || ask(exterior, map[string]any{"chained": true}) && protocol == "own" {
			t.Errorf("%s: a call that is no chained one of a plugin is permitted", protocol)
		}
	}
}

func TestDefaultPatches(t *testing.T) {
	proposer := Agent{Name: "gen", Trust: "system", Method: "peer"}
	token := func(typ string) map[string]any { return map[string]any{"token_type": typ} }
	tests := []struct {
		name    string
		who     Agent
		action  string
		on      Resource
		context map[string]any
		allow   bool
		by      string
	}{
		{"another's", systemAgent, "patch.approve", aPatch("gen", true, false), nil, true, "system-full"},
		{"one's own", proposer, "patch.approve", aPatch("gen", true, false), nil, false, "patch-not-own"},
		{"one's own, denied by oneself", proposer, "patch.deny", aPatch("gen", true, false), nil, true, "system-full"},
		{"exterior", exterior, "patch.approve", aPatch("gen", true, false), nil, false, ""},
		{"integrate", systemAgent, "patch.integrate", aPatch("gen", true, true), token("integration"), true, "system-full"},
		{"without token", systemAgent, "patch.integrate", aPatch("gen", true, true), nil, false, "patch-integration-token"},
		{"with another token", systemAgent, "patch.integrate", aPatch("gen", true, true), token("todo"), false, "patch-integration-token"},
		{"not verified", systemAgent, "patch.integrate", aPatch("gen", false, true), token("integration"), false, "patch-integration-verified"},
		{"not approved", systemAgent, "patch.integrate", aPatch("gen", true, false), token("integration"), false, "patch-integration-approved"},
		{"exterior integrates", exterior, "patch.integrate", aPatch("gen", true, true), token("integration"), false, ""},
	}
	for _, tt := range tests {
		d := Default().Decide(&Request{Principal: tt.who, Action: tt.action, Resource: tt.on, Context: tt.context})
		if d.Allow != tt.allow || !strings.HasPrefix(d.Names(), tt.by) || len(d.Errors) > 0 {
			t.Errorf("%s: %+v %s", tt.name, d, d.Names())
		}
	}
}

// A question that does not fit the schema is denied, with the reason.
func TestQuestionsThatDoNotFit(t *testing.T) {
	patch := aPatch("gen", true, true)
	delete(patch.Attributes, "verified")
	tests := []struct {
		says string
		req  Request
	}{
		{`Did you mean "gap.read"`, Request{Principal: systemAgent, Action: "gap.raed", Resource: TheHost()}},
		{"nobody asks", Request{Action: "gap.read", Resource: TheHost()}},
		{"is done on Patch, not on Host", Request{Principal: systemAgent, Action: "patch.approve", Resource: TheHost()}},
		{"not on nothing", Request{Principal: systemAgent, Action: "patch.approve"}},
		{`"verified" is missing`, Request{Principal: systemAgent, Action: "patch.approve", Resource: patch}},
		{`no attribute "tokentype"`, Request{Principal: systemAgent, Action: "gap.read", Resource: TheHost(), Context: map[string]any{"tokentype": "todo"}}},
		{"is none of operation", Request{Principal: systemAgent, Action: "gap.read", Resource: TheHost(), Context: map[string]any{"token_type": "tdo"}}},
		{`"operation" is missing`, Request{Principal: systemAgent, Action: "protocol.call", Resource: Resource{Ref: Ref{"Protocol", "arp"}}, Context: map[string]any{"sandboxed": true}}},
		{"true or false", Request{Principal: systemAgent, Action: "protocol.call", Resource: Resource{Ref: Ref{"Protocol", "arp"}}, Context: map[string]any{"sandboxed": "maybe", "operation": "x"}}},
		{"datetime", Request{Principal: systemAgent, Action: "gap.read", Resource: TheHost(), Context: map[string]any{"time": "noon"}}},
	}
	for _, tt := range tests {
		if d := Default().Decide(&tt.req); d.Allow || d.Default || len(d.Errors) != 1 || !strings.Contains(d.Errors[0].String(), tt.says) {
			t.Errorf("want %q: %+v", tt.says, d)
		}
	}
}

// A policy that cannot be evaluated lets nothing through.
func TestErrorsNeverAllow(t *testing.T) {
	const overflow = `resource.approvals + 9223372036854775807 > 0`
	ask := func(text string) Decision {
		return mustParse(t, text).Decide(&Request{Principal: systemAgent, Action: "patch.approve", Resource: aPatch("x", true, true)})
	}
	if d := ask(`permit (principal, action == Action::"patch.approve", resource) when { ` + overflow + ` };`); d.Allow || d.Default || len(d.Errors) != 1 || d.Errors[0].Policy == nil {
		t.Errorf("permit: %+v", d)
	}
	d := ask(`permit (principal, action, resource); @id("broken") forbid (principal, action == Action::"patch.approve", resource) when { ` + overflow + ` };`)
	if d.Allow || d.Default || len(d.Errors) != 1 || d.Errors[0].Policy.ID != "broken" || len(d.Policies) != 0 {
		t.Errorf("forbid: %+v", d)
	}
}

func TestTimeAndGroups(t *testing.T) {
	set := mustParse(t, `
permit (principal in Group::"ops", action == Action::"gap.read", resource is Host)
when { context.time < datetime("2030-01-01") && principal.method == context.method };`)
	req := Request{Principal: exterior, Action: "gap.read", Resource: TheHost(), Context: map[string]any{"time": time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC)}}
	if d := set.Decide(&req); !d.Allow {
		t.Errorf("in the group, in time: %+v", d)
	}
	req.Context["time"] = "2031-01-01"
	if d := set.Decide(&req); !d.Default {
		t.Errorf("too late: %+v", d)
	}
	req.Context["time"], req.Principal.Groups = "2029-01-01", nil
	if d := set.Decide(&req); !d.Default {
		t.Errorf("not in the group: %+v", d)
	}
}
