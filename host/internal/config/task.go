package config

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Tasks says how much is worked on at a time. Zero where there is no block; then
// [DefaultTasks] holds.
type Tasks struct {
	Open     int           // tasks of a workspace, made from gaps, that are open at a time; the rest waits
	Lease    time.Duration // how long a claim holds without a heartbeat
	Attempts int           // at a task, unless its rule says otherwise

	// How long a task that failed waits: at first, and at most.
	BackoffMin, BackoffMax time.Duration

	// How many are generated for at a time; zero is any number.
	PerWorkspace, PerPlugin int
}

// A Rule routes gaps to generators. Of several, the first that matches holds.
type Rule struct {
	Name       string
	Match      RuleMatch
	Sandbox    string         // name of a sandbox plugin; empty: agents from outside
	Scaffold   string         // empty: the first that applies
	Parameters map[string]any // of the scaffold: texts, numbers, bools
	Needs      []string       // protocols that must be available before its tasks are worked on
	Verify     []string       // names of steps
	PostCheck  []string       // names of steps, run on what was integrated
	Approval   string         // "auto", "one" or "two"
	Group      string         // "directory", "file" or "none"
	GroupSize  int
	Budget     RuleBudget
	Source     Range

	at hcl.Range // as Source
}

// RuleMatch says which gaps a rule is for: those that pass all that is there.
type RuleMatch struct {
	Types, Languages, Paths, Rules, Workspaces []string
	Severity                                   int // rank, at least; 0: any
}

// RuleBudget bounds one attempt, but Attempts, which bounds their number. Zero is
// the host's default.
type RuleBudget struct {
	Wall        time.Duration
	Money       float64
	ModelTokens int
	Attempts    int
}

var (
	tasksAttributes       = []string{"open", "lease", "attempts", "backoff_min", "backoff_max"}
	tasksBlocks           = []string{"concurrency"}
	concurrencyAttributes = []string{"workspace", "plugin"}
	ruleAttributes        = []string{"sandbox", "scaffold", "parameters", "needs", "verify", "post_check", "approval", "group", "group_size"}
	ruleBlocks            = []string{"match", "budget"}
	matchAttributes       = []string{"type", "language", "path", "severity", "rule", "workspace"}
	budgetAttributes      = []string{"wall", "money", "model_tokens", "attempts"}

	gapTypes = []string{
		"functionality_missing", "performance_degradation", "security_vulnerability", "code_quality", "documentation_incomplete",
		"test_coverage", "infrastructure",
	}
	// ruleTypes are what rules match: types of gaps, and tasks of maintenance.
	ruleTypes     = append(slices.Clone(gapTypes), "maintenance")
	severityNames = []string{"info", "low", "medium", "high", "critical"}

	leaseBounds       = bounds{low: time.Second, high: 24 * time.Hour}
	taskBackoffBounds = bounds{low: time.Second, high: 7 * 24 * time.Hour}
)

const (
	greatestOpen        = 100_000
	greatestConcurrency = 1000
	greatestAttempts    = 100
	greatestGroup       = 1000
	greatestModelTokens = 1 << 40
	greatestMoney       = 1_000_000
)

// readTaskBlocks reads what stands about tasks: of tasks one block, of rule any
// number, in the order in which they stand.
func (l *loader) readTaskBlocks(c *Config, blocks []*hclsyntax.Block, s *scope) {
	var tasks *hclsyntax.Block
	seen := make(map[string]Range)
	for _, b := range blocks {
		evaluated := l.evaluateBlock(b, s)
		switch {
		case b.Type == "tasks" && tasks != nil:
			l.duplicate(b, "tasks", publicRange(tasks.DefRange()))
		case b.Type == "tasks":
			tasks = b
			c.Tasks = readTasks(&l.reporter, evaluated)
		case !l.wantLabels(evaluated, "name"):
			l.allow(evaluated, ruleAttributes, ruleBlocks)
		default:
			r := l.readRule(c, evaluated)
			if first, taken := seen[r.Name]; taken {
				l.duplicate(b, fmt.Sprintf("rule %q", r.Name), first)
				continue
			}
			seen[r.Name] = r.Source
			c.Rules = append(c.Rules, r)
		}
	}
	l.warnOfShadowed(c.Rules)
}

// warnOfShadowed says which rules can never hold, since one before takes all.
func (l *loader) warnOfShadowed(rules []Rule) {
	for i, r := range rules {
		if r.Match.all() && i < len(rules)-1 {
			l.report(&hcl.Diagnostic{
				Severity: hcl.DiagWarning, Summary: "Rule that never holds", Subject: &rules[i+1].at,
				Detail: fmt.Sprintf("The rule %q matches every gap, and the first rule that matches holds: those after it never do. Move it to the end.", r.Name),
			})
			return
		}
	}
}

func (m *RuleMatch) all() bool {
	return len(m.Types)+len(m.Languages)+len(m.Paths)+len(m.Rules)+len(m.Workspaces) == 0 && m.Severity <= 1
}

// DefaultTasks returns what holds without a tasks block.
func DefaultTasks() Tasks {
	return Tasks{
		Open: 20, Lease: 5 * time.Minute, Attempts: 3, BackoffMin: 30 * time.Second, BackoffMax: time.Hour, PerWorkspace: 2, PerPlugin: 2,
	}
}

// readTasks reads a tasks block.
func readTasks(r *reporter, b *block) Tasks {
	s := section{reporter: r}.within(b)
	r.wantLabels(b)
	r.allow(b, tasksAttributes, tasksBlocks)
	limits := r.single(b, "concurrency")
	if limits != nil {
		r.allow(limits, concurrencyAttributes, nil)
	}
	t := tasksOf(s, s.within(limits))
	if t.BackoffMin > t.BackoffMax {
		s.errorf(b.body.attributes["backoff_min"].rangeOr(b.header), "Invalid backoff", "%q must not be greater than %q.", "backoff_min", "backoff_max")
	}
	return t
}

func tasksOf(s, limits section) Tasks {
	d := DefaultTasks()
	return Tasks{
		Open: s.integer("open", d.Open, 1, greatestOpen), Lease: s.duration("lease", d.Lease, leaseBounds),
		Attempts:   s.integer("attempts", d.Attempts, 1, greatestAttempts),
		BackoffMin: s.duration("backoff_min", d.BackoffMin, taskBackoffBounds), BackoffMax: s.duration("backoff_max", d.BackoffMax, taskBackoffBounds),
		PerWorkspace: limits.integer("workspace", d.PerWorkspace, 0, greatestConcurrency), PerPlugin: limits.integer("plugin", d.PerPlugin, 0, greatestConcurrency),
	}
}

// rangeOr is where an attribute stands, or what is given where there is none.
func (a *attribute) rangeOr(other hcl.Range) hcl.Range {
	if a == nil {
		return other
	}
	return a.expr.Range()
}

// readRule reads a rule block that has its one label.
func (l *loader) readRule(c *Config, b *block) Rule {
	s := section{reporter: &l.reporter, dir: l.dir}.within(b)
	l.nameLabel(b, 0)
	l.allow(b, ruleAttributes, ruleBlocks)
	match, budget := l.single(b, "match"), l.single(b, "budget")
	if match != nil {
		l.allow(match, matchAttributes, nil)
	}
	if budget != nil {
		l.allow(budget, budgetAttributes, nil)
	}
	return Rule{
		Name: b.labels[0], Match: l.readMatch(c, s.within(match)), Sandbox: l.readSandboxName(c, s),
		Scaffold: s.text("scaffold", "", checkName), Parameters: s.parameters("parameters"),
		Needs:  s.texts("needs", l.oneOf("protocol", c.protocolNames())),
		Verify: s.texts("verify", checkName), PostCheck: s.texts("post_check", checkName),
		Approval: s.choice("approval", "one", []string{"auto", "one", "two"}),
		Group:    s.choice("group", "directory", []string{"directory", "file", "none"}), GroupSize: s.integer("group_size", 20, 1, greatestGroup),
		Budget: readBudget(s.within(budget)), Source: publicRange(b.header), at: b.header,
	}
}

// parameters reads an object of texts, numbers and bools.
func (s section) parameters(name string) map[string]any {
	attr := s.body.attributes[name]
	if attr == nil || !attr.value.IsWhollyKnown() || attr.value.IsNull() {
		return nil
	}
	if t := attr.value.Type(); !t.IsObjectType() && !t.IsMapType() {
		s.errorf(attr.expr.Range(), "Incorrect value type", "%q holds values by name: { width = 80 }.", name)
		return nil
	}
	out := make(map[string]any)
	for key, value := range attr.value.AsValueMap() {
		switch {
		case value.IsNull():
		case value.Type() == cty.String:
			out[key] = value.AsString()
		case value.Type() == cty.Bool:
			out[key] = value.True()
		case value.Type() == cty.Number:
			out[key], _ = value.AsBigFloat().Float64()
		default:
			s.errorf(attr.expr.Range(), "Incorrect value type", "%s.%s must be a text, a number, or true or false.", name, key)
		}
	}
	return out
}

func readBudget(s section) RuleBudget {
	return RuleBudget{
		Wall: s.duration("wall", 0, sandboxTimeBounds), Money: s.number("money", 0, 0, greatestMoney),
		ModelTokens: s.integer("model_tokens", 0, 0, greatestModelTokens), Attempts: s.integer("attempts", 0, 1, greatestAttempts),
	}
}

func (l *loader) readMatch(c *Config, s section) RuleMatch {
	m := RuleMatch{
		Types: s.textOrTexts("type", l.oneOf("type of gap", ruleTypes)), Languages: s.textOrTexts("language", checkName),
		Paths: s.textOrTexts("path", checkPathPattern), Rules: s.textOrTexts("rule", checkArgument),
	}
	if severity := s.choice("severity", "", severityNames); severity != "" {
		m.Severity = slices.Index(severityNames, severity) + 1
	}
	names := make([]string, len(c.Workspaces))
	for i := range c.Workspaces {
		names[i] = c.Workspaces[i].Name
	}
	m.Workspaces = s.textOrTexts("workspace", l.oneOf("workspace", names))
	return m
}

// oneOf checks that a text is one of those given.
func (l *loader) oneOf(what string, all []string) func(string) error {
	return func(text string) error {
		if slices.Contains(all, text) {
			return nil
		}
		there := "none"
		if len(all) > 0 {
			there = strings.Join(all, ", ")
		}
		return fmt.Errorf("there is no %s %q.%s There is %s", what, text, l.didYouMean(text, all), there)
	}
}

// readSandboxName reads the name of a sandbox plugin, with or without its kind.
func (l *loader) readSandboxName(c *Config, s section) string {
	const kind = "sandbox."
	name := strings.TrimPrefix(s.text("sandbox", "", checkArgument), kind)
	if name == "" || c.Plugin(kind+name) != nil {
		return name
	}
	var names []string
	for i := range c.Plugins {
		if short, is := strings.CutPrefix(c.Plugins[i].ID(), kind); is {
			names = append(names, short)
		}
	}
	detail := "There is none."
	if len(names) > 0 {
		detail = "There is " + strings.Join(names, ", ") + "."
	}
	s.errorf(s.body.attributes["sandbox"].expr.Range(), "Unknown sandbox plugin", "There is no plugin \"sandbox\" %q.%s %s Without sandbox, the tasks are for agents from outside.",
		name, l.didYouMean(name, names), detail)
	return ""
}

// textOrTexts reads a list of texts, or a single one.
func (s section) textOrTexts(name string, check func(string) error) []string {
	attr := s.body.attributes[name]
	if attr == nil || !attr.value.IsKnown() || attr.value.IsNull() || attr.value.Type() != cty.String {
		return s.texts(name, check)
	}
	if text := s.text(name, "", check); text != "" {
		return []string{text}
	}
	return nil
}

// checkName refuses what cannot be the name of a step, a scaffold or a language.
func checkName(text string) error {
	if !labelPattern.MatchString(text) {
		return fmt.Errorf("%q cannot be a name: lower-case letters, digits, _ and -, a letter first", text)
	}
	return nil
}

// checkPathPattern refuses patterns that match nothing.
func checkPathPattern(pattern string) error {
	if pattern == "" || path.IsAbs(pattern) || pattern == ".." || strings.HasPrefix(pattern, "../") {
		return errors.New("it must be a pattern relative to the workspace, such as \"docs/**\"")
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("%q is not a pattern: a bracket or a backslash is left open", pattern)
	}
	return nil
}

// tasks adds what differs in how tasks are made and routed.
func (r *reasons) tasks(old, next *Config) {
	r.changed("tasks", old.Tasks != next.Tasks)
	was, is := rulesByName(old), rulesByName(next)
	for _, name := range keysOfBoth(was, is) {
		r.changed("rule."+name, !sameRule(was[name], is[name]))
	}
	order := func(c *Config) (names []string) {
		for i := range c.Rules {
			names = append(names, c.Rules[i].Name)
		}
		return names
	}
	r.changed("order of rules", len(was) == len(is) && len(was) > 0 && slices.Equal(sortedKeys(was), sortedKeys(is)) && !slices.Equal(order(old), order(next)))
}

func rulesByName(c *Config) map[string]*Rule {
	out := make(map[string]*Rule, len(c.Rules))
	for i := range c.Rules {
		out[c.Rules[i].Name] = &c.Rules[i]
	}
	return out
}

func sameRule(a, b *Rule) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Source, x.at, y.Source, y.at = Range{}, hcl.Range{}, Range{}, hcl.Range{}
	return reflect.DeepEqual(x, y)
}
