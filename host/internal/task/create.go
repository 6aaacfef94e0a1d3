package task

import (
	"context"
	"math/bits"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/scaffold"
)

// New says what task is asked for.
type New struct {
	Kind      Kind
	Title     string // empty, of a task of gaps: what they say
	Type      string
	Severity  string
	Workspace string
	Target    string // empty: the path of the first gap, or the root
	// Gaps are ids of gaps of the workspace.
	Gaps      []string
	DependsOn []string // references of tasks
	Needs     []string // protocols
	Spec      Spec
	Pinned    bool
	Key       string // see [Task.Key]
	// Attempts is how often it is tried; 0: as configured.
	Attempts int
	// Backlog has it wait until there is room in its workspace, as tasks do that are
	// made by rules.
	Backlog bool
	By, Why string
}

// Bounds on a task.
const (
	maxTitle   = 300
	maxText    = 8 << 10 // of a goal, criterion or requirement
	maxList    = 100     // of each list
	maxName    = 200
	maxGaps    = 1000
	maxPathLen = 4096
	maxElement = 255
)

// Create makes a task by hand. It is ready, or
// blocked while what it depends on is not done.
func (s *Service) Create(ctx context.Context, n New) (*Task, error) {
	return s.act(ctx, func(w *work) (*Task, Change, error) { return w.create(ctx, &n) })
}

// CheckCreate says whether Create would make the task, and returns it as it would
// be. Nothing is changed.
func (s *Service) CheckCreate(ctx context.Context, n New) (*Task, error) {
	return s.check(ctx, func(w *work) (*Task, Change, error) { return w.create(ctx, &n) })
}

func (w *work) create(ctx context.Context, n *New) (*Task, Change, error) {
	if err := n.check(); err != nil {
		return nil, Change{}, err
	}
	if err := w.service.checkNeeds(n.Needs); err != nil {
		return nil, Change{}, err
	}
	if n.Key != "" {
		other, err := w.Unclosed(ctx, n.Key)
		if err != nil {
			return nil, Change{}, err
		}
		if other != nil {
			return nil, Change{}, sdk.Errorf(codes.AlreadyExists, ReasonExists, "task %s is for the same", other.ID).
				WithRemedy("see it with: sop task show %s", other.ID)
		}
	}
	t, err := w.fresh(n)
	if err != nil {
		return nil, Change{}, err
	}
	if err := w.takeGaps(ctx, t, n); err != nil {
		return nil, Change{}, err
	}
	if t.DependsOn, err = w.named(ctx, n.DependsOn); err != nil {
		return nil, Change{}, err
	}
	t.Spec.Needs = n.Needs
	route := w.service.Route(t)
	t.takeRoute(&route)
	if n.Attempts == 0 {
		t.MaxAttempts = w.service.settings.Load().attempts(&route)
	}
	to, why := StateReady, n.Why
	if n.Backlog {
		to = StateBacklog
	} else if blocked, err := w.blockedBy(ctx, t); err != nil {
		return nil, Change{}, err
	} else if blocked != "" {
		to, why = StateBlocked, blocked
	}
	c, err := t.move(to, ActionCreated, n.By, clipText(why, maxWhy), w.now)
	return t, c, err
}

// fresh returns the task that is asked for, in no state yet.
func (w *work) fresh(n *New) (*Task, error) {
	id, err := newID()
	if err != nil {
		return nil, err
	}
	return &Task{
		ID: id, Kind: n.Kind, Title: n.Title, Type: n.Type, Severity: n.Severity, Workspace: n.Workspace, Target: n.Target,
		Gaps: slices.Clone(n.Gaps), Key: n.Key, Since: w.now, Pinned: n.Pinned, MaxAttempts: n.Attempts,
		Spec: n.Spec, CreatedBy: n.By, CreatedAt: w.now, DueAt: w.now,
	}, nil
}

// takeRoute has a task go by a route.
func (t *Task) takeRoute(r *Route) {
	t.Route, t.Sandbox, t.Needs = r.Rule, r.Sandbox, t.needs(r)
}

// needs are the protocols that a task on a route needs, sorted.
func (t *Task) needs(r *Route) []string {
	all := slices.Concat(t.Spec.Needs, r.Needs)
	slices.Sort(all)
	return slices.Compact(all)
}

// takeGaps takes from the gaps of a task what was not said.
func (w *work) takeGaps(ctx context.Context, t *Task, n *New) error {
	gaps, err := w.Gaps(ctx, n.Gaps)
	if err != nil {
		return err
	}
	if len(gaps) < len(n.Gaps) {
		return invalid("gaps", "%d of the %d gaps do not exist", len(n.Gaps)-len(gaps), len(n.Gaps)).
			WithRemedy("give whole ids; list them with: sop gap list")
	}
	for i := range gaps {
		if gaps[i].Workspace != t.Workspace {
			return invalid("gaps", "gap %s is of the workspace %s", gaps[i].ID, gaps[i].Workspace)
		}
	}
	t.describe(gaps, nil)
	if t.Title == "" {
		t.Title = titleOf(t, gaps)
	}
	if t.Target == "" {
		t.Target = "."
	}
	return nil
}

// named returns the ids of the tasks that are referred to.
func (w *work) named(ctx context.Context, refs []string) ([]string, error) {
	var ids []string
	for _, ref := range refs {
		t, err := w.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		ids = append(ids, t.ID)
	}
	return ids, nil
}

// check refuses what no task may be.
func (n *New) check() error {
	n.Title = strings.TrimSpace(n.Title)
	switch {
	case !slices.Contains(Kinds(), n.Kind):
		return invalid("kind", "there is no kind of task %q", clip(string(n.Kind), maxRef)).WithRemedy("the kinds are %v", Kinds())
	case n.Title == "" && (n.Kind != KindGap || len(n.Gaps) == 0): // that of its gaps
		return invalid("title", "a task has a title")
	case len(n.Title) > maxTitle || !printable(n.Title):
		return invalid("title", "the title is longer than %d bytes, or not one printable line", maxTitle)
	case n.Workspace == "" && n.Kind != KindMaintenance:
		return invalid("workspace", "a task is for a workspace")
	case n.By == "":
		return invalid("by", "a task is made by somebody")
	case n.Attempts < 0 || n.Attempts > maxList:
		return invalid("attempts", "a task is tried from 1 to %d times", maxList)
	case len(n.Gaps) > maxGaps:
		return invalid("gaps", "a task has at most %d gaps", maxGaps)
	case len(n.Type) > maxName || len(n.Key) > maxText || !printable(n.Type):
		return invalid("type", "the type is longer than %d bytes, or not printable", maxName)
	}
	if err := checkPath("target", n.Target); err != nil {
		return err
	}
	if err := n.Spec.check(); err != nil {
		return err
	}
	for field, list := range map[string][]string{"depends_on": n.DependsOn, "needs": n.Needs} {
		if err := checkList(field, list, maxName); err != nil {
			return err
		}
	}
	return nil
}

// checkPatterns refuses a pattern that could never cover anything: what it is to
// protect would not be.
func checkPatterns(field string, patterns []string) error {
	for _, p := range patterns {
		if fault := scaffold.PatternFault(p); fault != "" {
			return invalid(field, "%q is no pattern of paths: %s", clip(p, maxRef), fault).
				WithRemedy("name paths of the workspace; * stands for a part of a name, ** for any directories, and a directory for all beneath")
		}
	}
	return nil
}

func (s *Spec) check() error {
	for field, patterns := range map[string][]string{"scope": s.Scope, "protected": s.Protected} {
		if err := checkPatterns(field, patterns); err != nil {
			return err
		}
	}
	if len(s.Goal) > maxText || !utf8.ValidString(s.Goal) {
		return invalid("goal", "the goal is longer than %d bytes, or no text", maxText)
	}
	for field, list := range map[string][]string{
		"success_criteria": s.Criteria, "requirements": s.Requirements, "scope": s.Scope, "protected": s.Protected,
	} {
		if err := checkList(field, list, maxText); err != nil {
			return err
		}
	}
	return nil
}

func checkList(field string, list []string, longest int) error {
	if len(list) > maxList {
		return invalid(field, "%s has more than %d elements", field, maxList)
	}
	for _, e := range list {
		if e == "" || len(e) > longest || !utf8.ValidString(e) {
			return invalid(field, "an element of %s is empty, longer than %d bytes, or no text", field, longest)
		}
	}
	return nil
}

// checkPath refuses what does not stay within the workspace; empty is fine.
func checkPath(field, p string) error {
	switch {
	case p == "":
		return nil
	case len(p) > maxPathLen, path.IsAbs(p), path.Clean(p) != p, p == "..", strings.HasPrefix(p, "../"), strings.ContainsRune(p, 0):
		return invalid(field, "%q is no path within the workspace", clip(p, maxRef)).
			WithRemedy("write it relative to the workspace, with slashes, without .. or a slash at its end")
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// Weights of the priority: a step of severity is worth a hundred points, and what
// reaches further up to fifty.
const (
	severityPoints = 100
	reachPoints    = 10
	mostReach      = 5
)

// describe takes over what gaps say of their task, unless it was said. importers
// are those of Go packages by their directories; nil: they are not known.
func (t *Task) describe(gaps []Gap, importers map[string]int) {
	if len(gaps) == 0 {
		t.Base = t.basePriority()
		return
	}
	slices.SortFunc(gaps, compareGaps)
	first, worst := &gaps[0], &gaps[0]
	dir, file := path.Dir(first.Path), first.Path
	rule := first.Rule
	since := first.FirstSeen
	for i := range gaps {
		g := &gaps[i]
		if g.Rank > worst.Rank {
			worst = g
		}
		if g.FirstSeen.Before(since) {
			since = g.FirstSeen
		}
		if g.Path != file {
			file = ""
		}
		if path.Dir(g.Path) != dir {
			dir = "."
		}
		if g.Rule != rule {
			rule = ""
		}
	}
	t.Severity, t.Rule, t.Since, t.Spec.Path = worst.Severity, rule, since, first.Path
	if t.Type == "" {
		t.Type = first.Type
	}
	if t.Target == "" {
		if t.Target = file; file == "" {
			t.Target = dir
		}
	}
	by, known := importers[path.Dir(first.Path)]
	t.Base = worst.Rank*severityPoints + reach(len(gaps), t.Target, by, known && Language(first.Path) == "go")*reachPoints
}

// compareGaps orders gaps as a reader meets them.
func compareGaps(a, b Gap) int {
	if c := strings.Compare(a.Path, b.Path); c != 0 {
		return c
	}
	if a.Line != b.Line {
		return a.Line - b.Line
	}
	return strings.Compare(a.ID, b.ID)
}

// reach estimates how much a change touches, from 0 to 5: the more gaps, and the
// more packages import what it changes, the further. Where importers are not known
// it is what lies nearer to the root of the workspace, where what the rest builds
// on tends to be.
func reach(gaps int, target string, importers int, known bool) int {
	n := 0
	for rest := gaps; rest > 1 && n < mostReach-1; rest /= 2 {
		n++
	}
	if known {
		return min(n+bits.Len(uint(max(importers, 0))), mostReach)
	}
	const shallow = 2 // directories
	if strings.Count(target, "/") < shallow {
		n++
	}
	return min(n, mostReach)
}
