package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"pgregory.net/rapid"
)

// someAgents, someResources: few, so that policies and requests meet.
var (
	principalHeads = []string{
		"principal", "principal", `principal == Agent::"a"`, `principal == Agent::"b"`, `principal in Group::"ops"`, `principal in Group::"dev"`,
		"principal is Agent", `principal is Agent in Group::"ops"`, `principal in Agent::"a"`,
	}
	actionHeads = []string{
		"action", `action == Action::"gap.read"`, `action == Action::"patch.approve"`, `action == Action::"plugin.restart"`, `action in Action::"read"`,
		`action in Action::"write"`, `action in [Action::"status", Action::"patch.approve"]`, `action in Action::"gap.read"`,
	}
	resourceHeads = []string{
		"resource", "resource", `resource == Host::"sop"`, `resource == Patch::"p"`, "resource is Patch", `resource in Workspace::"main"`,
		`resource is Patch in Workspace::"main"`, "resource is Gap", `resource in Patch::"p"`, `resource == Plugin::"x"`,
	}
	conditions = []string{
		"", "", `when { principal.trust == "system" }`, `unless { principal.name == "a" }`,
		`when { context has token_type && context.token_type == "integration" }`, `when { context.method like "k*" }`,
		`when { resource is Patch && resource.verified }`, `when { resource is Patch && resource.proposer == principal }`,
		`when { resource is Patch && resource.approvals + 9223372036854775807 > 1 }`, `when { action in Action::"read" }`,
	}
	fewActions   = []string{"gap.read", "patch.approve", "plugin.restart", "host.status"}
	fewResources = []Resource{
		TheHost(),
		{Ref: Ref{"Patch", "p"}, In: []Ref{{"Workspace", "main"}}},
		{Ref: Ref{"Patch", "q"}},
		{Ref: Ref{"Gap", "g"}, In: []Ref{{"Workspace", "main"}}, Attributes: map[string]any{"type": "x", "severity": "low", "rule": "r"}},
		{Ref: Ref{"Plugin", "x"}, Attributes: map[string]any{"kind": "detector"}},
	}
)

func randomPolicies(t *rapid.T) *Set {
	var b strings.Builder
	for i := range rapid.IntRange(1, 40).Draw(t, "policies") {
		effect := rapid.SampledFrom([]string{"permit", "permit", "forbid"}).Draw(t, "effect")
		one := fmt.Sprintf("@id(\"p%d\")\n%s (%s, %s, %s) %s;\n", i, effect,
			rapid.SampledFrom(principalHeads).Draw(t, "principal"), rapid.SampledFrom(actionHeads).Draw(t, "action"),
			rapid.SampledFrom(resourceHeads).Draw(t, "resource"), rapid.SampledFrom(conditions).Draw(t, "condition"))
		if _, diags := Parse("one", []File{{Name: "one", Text: []byte(one)}}); len(diags) == 0 { // else it can never apply
			b.WriteString(one)
		}
	}
	b.WriteString(`permit (principal == Agent::"nobody", action, resource);`)
	set, diags := Parse("random", []File{{Name: "random", Text: []byte(b.String())}})
	if set == nil {
		t.Fatal(diags)
	}
	return set
}

func randomRequest(t *rapid.T) Request {
	r := Request{
		Principal: Agent{
			Name:   rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"),
			Trust:  rapid.SampledFrom([]string{"system", "exterior"}).Draw(t, "trust"),
			Method: rapid.SampledFrom([]string{"peer", "key"}).Draw(t, "method"),
			Groups: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"ops", "dev", "qa"}), 0, 3, rapid.ID).Draw(t, "groups"),
		},
		Action: rapid.SampledFrom(fewActions).Draw(t, "action"), Resource: rapid.SampledFrom(fewResources).Draw(t, "resource"),
	}
	if r.Resource.Type == "Patch" {
		r.Resource.Attributes = aPatch(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "proposer"), rapid.Bool().Draw(t, "verified"), true).Attributes
	}
	if rapid.Bool().Draw(t, "with token") {
		r.Context = map[string]any{"token_type": rapid.SampledFrom([]string{"integration", "todo"}).Draw(t, "token")}
	}
	return r
}

// The index finds what a pass over all policies finds.
func TestIndexedEqualsLinear(t *testing.T) {
	allowed, denied := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		set := randomPolicies(t)
		for range 20 {
			req := randomRequest(t)
			got := set.Decide(&req)
			converted, _, err := set.model.convert(&req)
			if err != nil {
				if got.Allow || len(got.Errors) != 1 {
					t.Fatalf("%v, but %+v", err, got)
				}
				continue
			}
			linear := cedar.NewPolicySet()
			for _, p := range set.policies {
				linear.Add(types.PolicyID(p.ID), p.compiled)
			}
			want, diagnostic := cedar.Authorize(linear, &converted.entities, converted.Request)
			compare(t, set, &got, want, &diagnostic)
			if got.Allow {
				allowed++
			} else {
				denied++
			}
		}
	})
	if allowed == 0 || denied == 0 {
		t.Errorf("%d allowed, %d denied: the requests try too little", allowed, denied)
	}
}

func compare(t *rapid.T, set *Set, got *Decision, want types.Decision, diagnostic *types.Diagnostic) {
	var decided, broken, wantDecided, wantBroken []string
	for _, p := range got.Policies {
		decided = append(decided, p.ID)
	}
	for _, f := range got.Errors {
		broken = append(broken, f.Policy.ID)
	}
	brokenForbid := false
	for _, e := range diagnostic.Errors {
		wantBroken = append(wantBroken, string(e.PolicyID))
		brokenForbid = brokenForbid || set.byID[e.PolicyID].Effect == "forbid"
	}
	for _, r := range diagnostic.Reasons {
		wantDecided = append(wantDecided, string(r.PolicyID))
	}
	if brokenForbid && want == types.Allow { // the one difference to Cedar, on the safe side
		want, wantDecided = types.Deny, nil
	}
	for _, list := range [][]string{decided, broken, wantDecided, wantBroken} {
		slices.Sort(list)
	}
	if got.Allow != (want == types.Allow) || !slices.Equal(decided, wantDecided) || !slices.Equal(broken, wantBroken) {
		t.Fatalf("indexed %v by %v, broken %v; linear %v by %v, broken %v", got.Allow, decided, broken, want, wantDecided, wantBroken)
	}
}
