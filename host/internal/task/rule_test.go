package task

import "testing"

func TestMatch(t *testing.T) {
	on := &subject{workspace: "w", kind: "code_quality", rule: "code.go.complexity", path: "a/b/c.go", rank: 3}
	for name, tt := range map[string]struct {
		match Match
		want  bool
	}{
		"nothing":    {Match{}, true},
		"all":        {Match{Types: []string{"x", "code_quality"}, Languages: []string{"go"}, Paths: []string{"x", "a/**"}, Rules: []string{"code.*"}, Workspaces: []string{"w"}, Severity: 3}, true},
		"type":       {Match{Types: []string{"x"}}, false},
		"language":   {Match{Languages: []string{"python"}}, false},
		"path":       {Match{Paths: []string{"a/*.go"}}, false},
		"rule":       {Match{Rules: []string{"code.go"}}, false},
		"rule parts": {Match{Rules: []string{"*.go.*ity"}}, true},
		"workspace":  {Match{Workspaces: []string{"v"}}, false},
		"severity":   {Match{Severity: 4}, false},
	} {
		if got := tt.match.passes(on); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestFirstRuleHolds(t *testing.T) {
	s := &Settings{Rules: []Rule{
		{Name: "security", Match: Match{Severity: 5}, Route: Route{Approval: ApprovalTwo}},
		{Name: "rest", Route: Route{Sandbox: "exec"}},
	}, Attempts: 3}
	if r := s.route(&Task{Severity: "critical"}); r.Rule != "security" || r.Approval != ApprovalTwo {
		t.Errorf("%+v", r)
	}
	if r := s.route(&Task{Severity: "high", Spec: Spec{Sandbox: "mine"}}); r.Rule != "rest" || r.Approval != ApprovalOne || r.Sandbox != "mine" {
		t.Errorf("%+v", r)
	}
}

// Nobody gets round an approval by what he calls the task that he asks for.
func TestAutoIsForGaps(t *testing.T) {
	s := &Settings{Rules: []Rule{
		{Name: "docs", Match: Match{Types: []string{"docs"}}, Route: Route{Approval: ApprovalAuto}},
		{Name: "mend", Match: Match{Types: []string{TypeMaintenance}}, Route: Route{Approval: ApprovalAuto}},
		{Name: "rest", Route: Route{Approval: ApprovalTwo}},
	}}
	for name, tt := range map[string]struct {
		task Task
		rule string
		want Approval
	}{
		"of a gap":            {Task{Kind: KindGap, Type: "docs", Gaps: []string{"g"}}, "docs", ApprovalAuto},
		"asked for":           {Task{Kind: KindManual, Type: "docs"}, "docs", ApprovalOne},
		"asked for, of a gap": {Task{Kind: KindManual, Type: "docs", Gaps: []string{"g"}}, "docs", ApprovalOne},
		"maintenance":         {Task{Kind: KindMaintenance, Type: TypeMaintenance, Workspace: "w"}, "mend", ApprovalOne},
		"two stay two":        {Task{Kind: KindManual, Type: "code"}, "rest", ApprovalTwo},
	} {
		if r := s.route(&tt.task); r.Rule != tt.rule || r.Approval != tt.want {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
