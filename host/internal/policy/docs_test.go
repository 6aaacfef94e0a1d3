package policy

import (
	"os"
	"regexp"
	"testing"
)

// What the documentation shows is valid, and its cases pass.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := func(language string) [][]byte {
		var out [][]byte
		for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(text, -1) {
			out = append(out, m[1])
		}
		return out
	}
	policies := blocks("cedar")
	if len(policies) == 0 {
		t.Fatal("no policies in the documentation")
	}
	for _, b := range policies {
		if _, diags := Parse("docs", []File{{Name: "policy.md", Text: b}}); len(diags) > 0 {
			t.Error(diags)
		}
	}
	tested := 0
	for _, b := range blocks("hcl") {
		cases, diags := ParseCases("policy.md", b)
		if len(diags) > 0 {
			continue // the configuration
		}
		for _, c := range cases {
			tested++
			if r := c.Test(Default()); r.Failure != "" {
				t.Errorf("%s: %s", c.Name, r.Failure)
			}
		}
	}
	if tested != 2 {
		t.Errorf("%d cases were tested", tested)
	}
}
