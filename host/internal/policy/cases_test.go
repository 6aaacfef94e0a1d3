package policy

import (
	"strings"
	"testing"
)

const goodCases = `
case "nobody approves their own" {
  principal = { name = "gen", trust = "system", groups = ["ops"] }
  action    = "patch.approve"
  resource  = {
    entity    = "Patch::p1"
    in        = ["Workspace::main"]
    proposer  = "gen"
    verified  = true
    approved  = false
    approvals = 0
    risks     = ["ci"]
  }
  expect = "deny"
  policy = "patch-not-own"
}
case "exterior agents see the status" {
  principal = "bot"
  action    = "host.status"
  expect    = "allow"
  policy    = "exterior-status"
}
case "and nothing else" {
  principal = "Agent::\"bot\""
  action    = "gap.read"
  expect    = "deny"
}
case "UIP in a sandbox" {
  principal = "bot"
  action    = "protocol.call"
  resource  = "Protocol::uip"
  context   = { operation = "render", sandboxed = true, time = "2030-01-01T00:00:00Z" }
  expect    = "allow"
}
`

func TestCases(t *testing.T) {
	cases, diags := ParseCases("good.hcl", []byte(goodCases))
	if len(cases) != 4 || diags != nil {
		t.Fatalf("%v %v", cases, diags)
	}
	for _, c := range cases {
		if r := c.Test(Default()); r.Failure != "" {
			t.Errorf("%s: %s", c.Name, r.Failure)
		}
	}
	wrong := []struct {
		says string
		edit func(*Case)
	}{
		{"expected allow, got deny by patch-not-own (patches.cedar:4)", func(c *Case) { c.Allow = true }},
		{"expected to be decided by other, was deny by patch-not-own", func(c *Case) { c.Policy = "other" }},
		{"cannot be asked: there is no action", func(c *Case) { c.Request.Action = "patch.aprove" }},
	}
	for _, tt := range wrong {
		c := cases[0]
		tt.edit(&c)
		if r := c.Test(Default()); !strings.Contains(r.Failure, tt.says) {
			t.Errorf("want %q, got %q", tt.says, r.Failure)
		}
	}
}

func TestInvalidCases(t *testing.T) {
	const rest = "\n action = \"gap.read\"\n expect = \"deny\"\n}\n"
	tests := map[string]struct{ text, says string }{
		"syntax":     {"case \"x\" {", "c.hcl:1:"},
		"empty":      {"", "tests nothing"},
		"attribute":  {"a = 1\ncase \"x\" {\n principal = \"a\"" + rest, "c.hcl:1:1: Unexpected attribute"},
		"block":      {"cases \"x\" {}", "Not a case"},
		"nested":     {"case \"x\" {\n principal = \"a\"\n resource {}" + rest, "write resource = { … }"},
		"name":       {"case \"x\" {\n principle = \"a\"" + rest, `c.hcl:2:2: Unknown attribute; A case has no attribute "principle". Did you mean "principal"?`},
		"missing":    {"case \"x\" {" + rest, `needs the attribute "principal"`},
		"expect":     {"case \"x\" {\n principal = \"a\"\n action = \"gap.read\"\n expect = \"maybe\"\n}", "c.hcl:4:11: Invalid value"},
		"type":       {"case \"x\" {\n principal = 3" + rest, "A principal is a name"},
		"field":      {"case \"x\" {\n principal = { nme = \"a\" }" + rest, `Did you mean "name"`},
		"trust":      {"case \"x\" {\n principal = { name = \"a\", trust = \"full\" }" + rest, "is no trust"},
		"resource":   {"case \"x\" {\n principal = \"a\"\n resource = \"Patch\"" + rest, "names no entity"},
		"no entity":  {"case \"x\" {\n principal = \"a\"\n resource = { verified = true }" + rest, "names no entity"},
		"parent":     {"case \"x\" {\n principal = \"a\"\n resource = { entity = \"Gap::g\", in = [\"main\"] }" + rest, "names no entity"},
		"fraction":   {"case \"x\" {\n principal = \"a\"\n context = { a = 1.5 }" + rest, "whole numbers"},
		"expression": {"case \"x\" {\n principal = nope" + rest, "c.hcl:2:14"},
		"not text":   {"case \"x\" {\n principal = \"a\"\n policy = 3" + rest, "is a text"},
		"deep":       {"case \"x\" {\n principal = " + strings.Repeat("[", 100), "Nesting too deep"},
	}
	for name, tt := range tests {
		cases, diags := ParseCases("c.hcl", []byte(tt.text))
		if cases != nil || !strings.Contains(diags.Error(), tt.says) {
			t.Errorf("%s: %v", name, diags)
		}
	}
	if _, diags := LoadCases(t.TempDir()); len(diags) == 0 {
		t.Error("a directory was read")
	}
}
