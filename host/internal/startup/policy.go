package startup

import (
	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/policy"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// loadPolicies returns the policies that the configuration names, or the default
// ones where it names none.
func loadPolicies(cfg *config.Config) (*policy.Set, config.Diagnostics) {
	if cfg.Policy.Dir == "" {
		return policy.Default(), nil
	}
	set, diags := policy.Load(cfg.Policy.Dir)
	out := policyDiagnostics(diags)
	for i := range out {
		if out[i].File == cfg.Policy.Dir { // the directory itself: say who names it
			out[i] = cfg.Problem(cfg.Policy.Source, out[i].Summary, out[i].File+": "+out[i].Detail)
		}
	}
	return set, out
}

// policyDiagnostics converts what is wrong with policies.
func policyDiagnostics(in policy.Diagnostics) config.Diagnostics {
	var out config.Diagnostics
	for _, d := range in {
		out = append(out, config.Diagnostic{
			Severity: config.SeverityError, Summary: d.Summary, Detail: d.Detail, Snippet: d.Snippet,
			Range: config.Range{File: d.File, Line: d.Line, Column: d.Column, EndLine: d.EndLine, EndColumn: d.EndColumn},
		})
	}
	return out
}

// policyChange says what becomes of the policies; old is nil at the start.
func policyChange(old, next *loaded) config.Change {
	change := config.Change{Object: config.ObjectPolicy, Action: config.ActionUnchanged}
	switch {
	case old == nil:
		change.Action = config.ActionStart
	case old.policies.Source() != next.policies.Source():
		change.Action, change.Reasons = config.ActionUpdate, []string{"dir changed"}
	case old.policies.Digest() != next.policies.Digest():
		change.Action, change.Reasons = config.ActionUpdate, changedPolicies(old.policies, next.policies)
	}
	return change
}

// mostChangedPolicies is how many a change names.
const mostChangedPolicies = 20

// changedPolicies names the policies that differ, by id.
func changedPolicies(old, next *policy.Set) []string {
	before := make(map[string]string)
	for _, p := range old.Policies() {
		before[p.ID] = p.Text
	}
	var out []string
	for _, p := range next.Policies() {
		text, was := before[p.ID]
		delete(before, p.ID)
		switch {
		case !was:
			out = append(out, p.ID+" added")
		case text != p.Text:
			out = append(out, p.ID+" changed")
		}
	}
	for _, p := range old.Policies() {
		if _, gone := before[p.ID]; gone {
			out = append(out, p.ID+" removed")
		}
	}
	switch {
	case len(out) == 0:
		return []string{"comments or order changed"}
	case len(out) > mostChangedPolicies:
		return append(out[:mostChangedPolicies], "and more")
	}
	return out
}

// openPolicies returns the policies for commands that ask no host: those of a
// directory; or, without one, those that the configuration names, and the default
// ones where there is no configuration.
func openPolicies(dir, configPath, pluginsDir string) (*policy.Set, config.Diagnostics) {
	if dir != "" {
		set, diags := policy.Load(dir)
		return set, policyDiagnostics(diags)
	}
	if configPath == "" {
		return policy.Default(), nil
	}
	cfg, diags := config.Load(configPath, config.Options{PluginsDir: pluginsDir})
	if cfg == nil {
		return nil, diags
	}
	set, more := loadPolicies(cfg)
	return set, append(diags, more...)
}

// PolicySource says which policies a command without a host works with.
type PolicySource struct {
	// Dir names them; else the configuration does; and without either they
	// are the default ones.
	Dir, ConfigPath, PluginsDir string
}

// Policies returns them. The list is nil if and only if the diagnostics have
// errors.
func Policies(s PolicySource) (*apiv1.ListPoliciesResponse, config.Diagnostics) {
	set, diags := openPolicies(s.Dir, s.ConfigPath, s.PluginsDir)
	if set == nil {
		return nil, diags
	}
	return api.PolicyList(set), diags
}

// ExplainPolicy answers as a host with these policies would.
func ExplainPolicy(s PolicySource, req *apiv1.ExplainRequest) (*apiv1.ExplainResponse, config.Diagnostics, error) {
	set, diags := openPolicies(s.Dir, s.ConfigPath, s.PluginsDir)
	if set == nil {
		return nil, diags, nil
	}
	answer, err := api.ExplainPolicy(set, req)
	return answer, diags, err
}

// PolicyTest is how one case of a file went.
type PolicyTest struct {
	Name string `json:"name"`
	File string `json:"file"`
	Line int    `json:"line"`
	// Failure is empty where all is as expected.
	Failure string `json:"failure,omitempty"`
	// DecidedBy names the policies that decided.
	DecidedBy string `json:"decided_by,omitempty"`
}

// TestPolicies asks the policies what the cases in the files ask. The results are
// nil when the diagnostics have errors.
func TestPolicies(s PolicySource, files []string) ([]PolicyTest, config.Diagnostics) {
	set, diags := openPolicies(s.Dir, s.ConfigPath, s.PluginsDir)
	var cases []policy.Case
	for _, file := range files {
		read, problems := policy.LoadCases(file)
		diags = append(diags, policyDiagnostics(problems)...)
		cases = append(cases, read...)
	}
	if diags.HasErrors() {
		return nil, diags
	}
	results := make([]PolicyTest, len(cases))
	for i := range cases {
		r := cases[i].Test(set)
		results[i] = PolicyTest{Name: r.Name, File: r.File, Line: r.Line, Failure: r.Failure, DecidedBy: r.Decision.Names()}
	}
	return results, diags
}

// DefaultPolicies returns the default policies as files, text by name.
func DefaultPolicies() map[string]string {
	out := make(map[string]string)
	for _, f := range policy.DefaultFiles() {
		out[f.Name] = string(f.Text)
	}
	return out
}

// PolicySchema returns the schema that policies are written against.
func PolicySchema() string { return policy.Schema() }

// PolicyActions returns the names of the actions that can be asked about.
func PolicyActions() []string { return policy.Actions() }
