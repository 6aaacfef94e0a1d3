package task

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sop-host/sop/sdk/scaffold"
)

// Rule routes gaps to generators: the first that matches holds.
type Rule struct {
	Name  string
	Match Match
	Route Route
	// Group says which gaps become one task, and Most how many at most; zero:
	// [GroupDirectory] and [DefaultGroup].
	Group Group
	Most  int
}

// Route says how a task is worked on.
type Route struct {
	Rule       string // its name; empty: no rule matches
	Sandbox    string // the plugin, such as "scaffold"; empty: agents from outside
	Scaffold   string // empty: the first that applies
	Parameters map[string]any
	Needs      []string // protocols that must be available before
	Verify     []string // names of steps
	PostCheck  []string // names of steps, run on what was integrated before it is settled
	Approval   Approval
	Budget     Budget
}

// Budget bounds one attempt, but Attempts, which bounds their number. Zero is the
// host's default.
type Budget struct {
	Wall        time.Duration
	Money       float64
	ModelTokens int64
	Attempts    int
}

// Approval is who lets a patch through.
type Approval string

// The approvals. One is what holds unless a rule says otherwise. Auto is for tasks
// that the host makes of gaps: whoever asks for another says himself of what type it
// is, and so which rule is for it.
const (
	ApprovalAuto Approval = "auto" // nobody, once every verify step has passed
	ApprovalOne  Approval = "one"
	ApprovalTwo  Approval = "two"
)

// Approvals returns all of them.
func Approvals() []Approval { return []Approval{ApprovalAuto, ApprovalOne, ApprovalTwo} }

// Group says which gaps of one detector's rule become one task.
type Group string

// The groups.
const (
	GroupDirectory Group = "directory"
	GroupFile      Group = "file"
	GroupNone      Group = "none" // each gap is a task
)

// Groups returns all of them.
func Groups() []Group { return []Group{GroupDirectory, GroupFile, GroupNone} }

// DefaultGroup is how many gaps a task has at most, unless a rule says otherwise.
const DefaultGroup = 20

// Match says which gaps a rule is for: those that pass every list that is not
// empty.
type Match struct {
	Types      []string
	Languages  []string
	Paths      []string // patterns; ** stands for any number of directories
	Rules      []string // of detectors, such as "docs.go.*"
	Workspaces []string
	Severity   int // rank, at least
}

// subject is what a rule looks at.
type subject struct {
	workspace, kind, rule, path string
	rank                        int
}

// passes says whether a rule is for a subject.
func (m *Match) passes(s *subject) bool {
	return s.rank >= m.Severity && among(m.Workspaces, s.workspace) && among(m.Types, s.kind) && among(m.Languages, Language(s.path)) &&
		anyOf(m.Paths, func(p string) bool { return scaffold.MatchPath(p, s.path) }) &&
		anyOf(m.Rules, func(p string) bool { return matchName(p, s.rule) })
}

func among(all []string, one string) bool { return len(all) == 0 || slices.Contains(all, one) }

func anyOf(all []string, is func(string) bool) bool {
	return len(all) == 0 || slices.ContainsFunc(all, is)
}

// matchName matches a name in which an asterisk stands for any text.
func matchName(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, last)
}

// languages are the names of languages by the extensions of files.
var languages = map[string]string{
	".go": "go", ".py": "python", ".pyi": "python", ".pyw": "python", ".md": "markdown", ".markdown": "markdown", ".js": "javascript",
	".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript", ".ts": "typescript", ".tsx": "typescript", ".rs": "rust", ".java": "java",
	".kt": "kotlin", ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".hpp": "cpp", ".cs": "csharp", ".rb": "ruby", ".php": "php",
	".swift": "swift", ".sh": "shell", ".bash": "shell", ".sql": "sql", ".tf": "hcl", ".hcl": "hcl", ".yaml": "yaml", ".yml": "yaml",
	".json": "json", ".toml": "toml", ".html": "html", ".css": "css", ".proto": "protobuf", ".lua": "lua", ".scala": "scala",
}

// Language is the language of a file by its name, or empty.
func Language(name string) string {
	if base := path.Base(name); base == "Dockerfile" || base == "Makefile" {
		return strings.ToLower(base)
	}
	return languages[strings.ToLower(path.Ext(name))]
}

// Languages returns the names of all languages, sorted.
func Languages() []string {
	all := []string{"dockerfile", "makefile"}
	for _, l := range languages {
		all = append(all, l)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// rule returns the first rule that is for a subject, or nil.
func (s *Settings) rule(on *subject) *Rule {
	for i := range s.Rules {
		if s.Rules[i].Match.passes(on) {
			return &s.Rules[i]
		}
	}
	return nil
}

func (g *Gap) subject() *subject {
	return &subject{workspace: g.Workspace, kind: g.Type, rule: g.Rule, path: g.Path, rank: g.Rank}
}

// ranks are the severities, by rank from 1.
var ranks = []string{"info", "low", "medium", "high", "critical"}

func (t *Task) subject() *subject {
	return &subject{workspace: t.Workspace, kind: t.Type, rule: t.Rule, path: cmp.Or(t.Spec.Path, t.Target), rank: slices.Index(ranks, t.Severity) + 1}
}

// Route says how a task is worked on by the configuration in force. What the task
// itself says goes before what its rule says.
func (s *Service) Route(t *Task) Route { return s.settings.Load().route(t) }

func (s *Settings) route(t *Task) Route {
	route := t.unruled()
	for i := range s.Rules {
		if r := &s.Rules[i]; r.isFor(t) {
			route = r.Route
			route.Rule = r.Name
			break
		}
	}
	if t.Spec.Sandbox != "" {
		route.Sandbox = t.Spec.Sandbox
	}
	if t.Spec.Scaffold != "" {
		route.Scaffold, route.Parameters = t.Spec.Scaffold, t.Spec.Parameters
	}
	if route.Approval == "" || route.Approval == ApprovalAuto && t.Kind != KindGap {
		route.Approval = ApprovalOne
	}
	return route
}

// attempts is how often a task on the route is tried.
func (s *Settings) attempts(r *Route) int {
	if r.Budget.Attempts > 0 {
		return r.Budget.Attempts
	}
	return s.Attempts
}
