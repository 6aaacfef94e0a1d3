package scaffold

import (
	"fmt"
	"slices"
	"strings"
)

// Scaffold is one template with its header, validated.
type Scaffold struct {
	Name    string
	Version string
	Summary string
	// Place says what the template is given and where its text goes.
	Place string
	// GapTypes and Rules say which gaps it is for: one of a type and, where
	// there are rules, of one of these. Without both it is applied by name only.
	GapTypes []string
	Rules    []string
	// Languages and Paths narrow that to files; a pattern's ** stands for any
	// number of directories. Empty is any.
	Languages []string
	Paths     []string
	// Parameters can be given with a task.
	Parameters []Parameter
	// Checks are made of each change before it is handed out.
	Checks []string
	// Origin is "bundled" or the path of the file that it was read from.
	Origin string
	// Examples lie beside it.
	Examples []Example
	// Source is the whole file.
	Source []byte

	file     *compiled // for the place "file": its path
	template *compiled
}

// Parameter is a value that a task may set.
type Parameter struct {
	Name string
	// Type is "string", "number" or "bool".
	Type        string
	Description string
	Required    bool
	// Default is a string, float64 or bool; nil where there is none.
	Default any
	// Choices of a string; empty is any.
	Choices []string
}

// Gap is what a scaffold is applied to. It has the form of the gap in a task of
// sop.generator/v1.
type Gap struct {
	ID         string            `json:"id,omitempty"`
	Rule       string            `json:"rule,omitempty"`
	Type       string            `json:"type,omitempty"`
	Path       string            `json:"path,omitempty"`
	Line       int               `json:"line,omitempty"`
	Symbol     string            `json:"symbol,omitempty"`
	Message    string            `json:"message,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

// The checks.
const (
	// CheckParses is that a Go or Python file parses after the change.
	CheckParses = "parses"
	// CheckFormatted is that a Go file which gofmt would leave alone is so
	// after the change.
	CheckFormatted = "formatted"
	// CheckCompiles is that a Go file passes the type checker with its package,
	// which must import only the standard library.
	CheckCompiles = "compiles"
	// CheckRuleGone is that a second application finds nothing to do.
	CheckRuleGone = "rule_gone"
)

var checkNames = []string{CheckParses, CheckFormatted, CheckCompiles, CheckRuleGone}

// gapTypes are the host's types of gaps.
var gapTypes = []string{
	"functionality_missing", "performance_degradation", "security_vulnerability", "code_quality",
	"documentation_incomplete", "test_coverage", "infrastructure",
}

// languages are those that files are recognised as.
var languages = []string{"go", "python", "markdown"}

// Applies says whether s is made for g.
func (s *Scaffold) Applies(g Gap) bool {
	if len(s.GapTypes) == 0 && len(s.Rules) == 0 {
		return false
	}
	if len(s.GapTypes) > 0 && g.Type != "" && !slices.Contains(s.GapTypes, g.Type) {
		return false
	}
	if len(s.Rules) > 0 && !slices.Contains(s.Rules, g.Rule) {
		return false
	}
	if len(s.Rules) == 0 && g.Type == "" {
		return false
	}
	return s.fits(g.Path)
}

// fits says whether path is of the languages and paths that s is for.
func (s *Scaffold) fits(path string) bool {
	if len(s.Languages) > 0 && !slices.Contains(s.Languages, languageOf(path)) {
		return false
	}
	return len(s.Paths) == 0 || slices.ContainsFunc(s.Paths, func(p string) bool { return MatchPath(p, path) })
}

// values completes given with defaults. It refuses what is not declared, not of
// its type, or missing.
func (s *Scaffold) values(given map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(s.Parameters))
	for _, p := range s.Parameters {
		v, ok := given[p.Name]
		if !ok {
			if p.Required {
				return nil, fmt.Errorf("scaffold %s: parameter %s is required", s.Name, p.Name)
			}
			out[p.Name] = p.zero()
			continue
		}
		v, err := p.accept(v)
		if err != nil {
			return nil, fmt.Errorf("scaffold %s: parameter %s: %w", s.Name, p.Name, err)
		}
		out[p.Name] = v
	}
	for name := range given {
		if _, ok := out[name]; !ok {
			return nil, fmt.Errorf("scaffold %s has no parameter %q", s.Name, name)
		}
	}
	return out, nil
}

// zero is the default, or the zero value of the type.
func (p Parameter) zero() any {
	if p.Default != nil {
		return p.Default
	}
	switch p.Type {
	case "number":
		return 0.0
	case "bool":
		return false
	}
	return ""
}

// accept returns v if it is of the type; an int is a number.
func (p Parameter) accept(v any) (any, error) {
	if n, ok := v.(int); ok {
		v = float64(n)
	}
	var ok bool
	switch p.Type {
	case "number":
		_, ok = v.(float64)
	case "bool":
		_, ok = v.(bool)
	default:
		var text string
		if text, ok = v.(string); ok && len(p.Choices) > 0 && !slices.Contains(p.Choices, text) {
			return nil, fmt.Errorf("%q is none of %s", text, strings.Join(p.Choices, ", "))
		}
	}
	if !ok {
		return nil, fmt.Errorf("a %s is wanted, not %v", p.Type, v)
	}
	return v, nil
}
