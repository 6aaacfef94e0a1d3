package policy

import (
	"testing"
)

// A policy looks at the time if its text asks the context for that, or for all of
// it.
func TestIsTimed(t *testing.T) {
	for text, want := range map[string]bool{
		`permit (principal, action, resource);`:                                                                                   false,
		`permit (principal, action, resource) when { context.operation == "time" };`:                                              false,
		`permit (principal, action, resource) when { context has chained && context.chained };`:                                   false,
		`permit (principal, action, resource) when { context . time > datetime("2026-01-01") };`:                                  true,
		`permit (principal, action, resource) when { context has time };`:                                                         true,
		`permit (principal, action, resource) when { context["time"] > datetime("2026-01-01")};`:                                  true,
		`permit (principal, action, resource) when { context has "time" };`:                                                       true,
		`permit (principal, action, resource) when { context == resource };`:                                                      true,
		`permit (principal, action, resource) when { context.operation == "x" || {c: context}.c.time > datetime("2026-01-01") };`: true,
	} {
		if got := (&Policy{Text: text}).isTimed(); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// The facts of two requests are written alike only if they are the same.
func TestFactsText(t *testing.T) {
	all := []map[string]any{
		nil, {"a": "b"}, {"a": true}, {"a": "true"}, {"a": 1}, {"a": "1"}, {"a": `b","c":"d`}, {"a": "b", "c": "d"}, {"a": "b\x00"}, {"a:": "b"}, {"a": ""}, {"": "a"},
	}
	seen := make(map[string]int)
	for i, facts := range all {
		text, plain := factsText(facts)
		if other, there := seen[text]; there || !plain {
			t.Errorf("%v and %v: %q, %v", facts, all[other], text, plain)
		}
		seen[text] = i
	}
	for _, facts := range []map[string]any{{"a": []string{"b"}}, {"a": Ref{"A", "b"}}, {"a": string(make([]byte, maxFactsText))}} {
		if text, plain := factsText(facts); plain {
			t.Errorf("%v: %q", facts, text)
		}
	}
}

// What was decided once is decided again for the same facts, and not for others.
func TestDecisionsWithFacts(t *testing.T) {
	set := Default()
	ask := func(sandboxed bool) Decision {
		return set.Decide(&Request{
			Principal: Agent{Name: "bot", Trust: "exterior", Method: "key"}, Action: "protocol.call", Resource: Resource{Ref: Ref{TypeProtocol, "uip"}},
			Context: map[string]any{"operation": "render", "sandboxed": sandboxed},
		})
	}
	for range 3 {
		if d := ask(true); !d.Allow {
			t.Errorf("a sandboxed operation is denied: %+v", d)
		}
		if d := ask(false); d.Allow {
			t.Errorf("another operation is permitted: %+v", d)
		}
	}
	if held := set.memory.held.Load(); held < 2 {
		t.Errorf("%d decisions are remembered", held)
	}
}
