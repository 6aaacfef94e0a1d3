package config

import "github.com/hashicorp/hcl/v2/hclsyntax"

// Policy says where the policies are.
type Policy struct {
	Dir    string // absolute; empty: the default policies
	Source Range  // the attribute, or else the block; zero when there is none
}

var policyAttributes = []string{"dir"}

// readPolicies reads the policy blocks, of which there may be one.
func (l *loader) readPolicies(blocks []*hclsyntax.Block, s *scope) Policy {
	var policy Policy
	for i, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		if i > 0 {
			l.duplicate(b, "policy", publicRange(blocks[0].DefRange()))
			continue
		}
		l.wantLabels(evaluated)
		l.allow(evaluated, policyAttributes, nil)
		settings := section{reporter: &l.reporter, dir: l.dir}.within(evaluated)
		settings.require("dir")
		policy = Policy{Dir: settings.path("dir", ""), Source: evaluated.attributeRange("dir")}
	}
	return policy
}
