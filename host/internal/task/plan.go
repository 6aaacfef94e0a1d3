package task

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
)

// Bounds on a pass of planning.
const (
	// plannedAtOnce is how many gaps one pass makes tasks of; what is left is for
	// the next pass, which follows at once.
	plannedAtOnce = 20_000
	// tasksAtOnce is how many tasks one transaction makes, closes or opens.
	tasksAtOnce = 200
)

// Planner is who plans, in records.
const Planner = "planner"

// DefaultOpen is how many tasks of a workspace are open at a time, unless that is
// configured.
const DefaultOpen = 20

// Planned is what a plan has done.
type Planned struct {
	Closed   int // because their gaps are gone
	Made     int // and put into the backlog
	Opened   int
	Rerouted int
}

// Plan brings the tasks of a workspace up to what its gaps and the rules are: it
// closes those whose gaps are gone, makes tasks of gaps that have none and that a
// rule is for, and opens as many from the backlog as there is room for. It may be
// repeated at any time; while one runs for any workspace, another waits.
func (s *Service) Plan(ctx context.Context, workspace string) (done Planned, err error) {
	s.planning.Lock()
	defer s.planning.Unlock()
	if done.Closed, err = s.closeGone(ctx, workspace); err != nil {
		return done, fmt.Errorf("close tasks whose gaps are gone: %w", err)
	}
	for {
		made, more, err := s.makeTasks(ctx, workspace)
		done.Made += made
		if err != nil {
			return done, fmt.Errorf("make tasks of gaps: %w", err)
		}
		if !more {
			break
		}
	}
	if done.Rerouted, err = s.reroute(ctx, workspace); err != nil {
		return done, fmt.Errorf("route tasks: %w", err)
	}
	if done.Opened, err = s.openSome(ctx, workspace); err != nil {
		return done, fmt.Errorf("open tasks: %w", err)
	}
	return done, nil
}

// closeGone closes the tasks of which every gap is resolved or suppressed.
func (s *Service) closeGone(ctx context.Context, workspace string) (total int, err error) {
	for {
		n := 0
		err := s.update(ctx, func(w *work) error {
			gone, err := w.Overtaken(ctx, workspace, tasksAtOnce)
			if err != nil {
				return err
			}
			n = len(gone)
			for _, t := range gone {
				c, err := t.move(StateDone, "", Planner, "its gaps are gone", w.now)
				if err != nil {
					return err
				}
				if err := w.put(ctx, t, c); err != nil {
					return err
				}
			}
			return nil
		})
		total += n
		if err != nil || n < tasksAtOnce {
			return total, err
		}
	}
}

// errEnough ends the reading of gaps.
var errEnough = errors.New("enough for this pass")

// makeTasks makes tasks of gaps that have none, and says whether there may be more.
func (s *Service) makeTasks(ctx context.Context, workspace string) (made int, more bool, err error) {
	settings := s.settings.Load()
	var groups []*group
	byKey := make(map[groupKey]*group)
	seen := 0
	err = s.store.Untasked(ctx, workspace, func(g Gap) error {
		r := settings.rule(g.subject())
		if r == nil {
			return nil
		}
		if seen++; seen > plannedAtOnce {
			return errEnough
		}
		key := keyOf(r, &g)
		to := byKey[key]
		if to == nil || len(to.gaps) >= r.most() {
			to = &group{rule: r}
			byKey[key] = to
			groups = append(groups, to)
		}
		to.gaps = append(to.gaps, g)
		return nil
	})
	more = errors.Is(err, errEnough)
	if err != nil && !more {
		return 0, false, err
	}
	importers, err := s.importers(ctx, workspace, groups)
	if err != nil {
		return 0, false, err
	}
	for len(groups) > 0 {
		n := min(len(groups), tasksAtOnce)
		if err := s.update(ctx, func(w *work) error { return w.makeAll(ctx, workspace, groups[:n], importers) }); err != nil {
			return made, false, err
		}
		made, groups = made+n, groups[n:]
	}
	return made, more, nil
}

// importers counts who imports what, if one of the groups is about Go.
func (s *Service) importers(ctx context.Context, workspace string, groups []*group) (map[string]int, error) {
	isGo := func(g Gap) bool { return Language(g.Path) == "go" }
	if s.opt.Importers == nil || !slices.ContainsFunc(groups, func(g *group) bool { return slices.ContainsFunc(g.gaps, isGo) }) {
		return nil, nil
	}
	return s.opt.Importers(ctx, workspace)
}

// group is the gaps of a task to be.
type group struct {
	rule *Rule
	gaps []Gap
}

// groupKey is what the gaps of a task have in common.
type groupKey struct{ route, rule, place string }

func keyOf(r *Rule, g *Gap) groupKey {
	key := groupKey{route: r.Name, rule: g.Rule}
	switch r.Group {
	case GroupNone:
		key.place = g.ID
	case GroupFile:
		key.place = g.Path
	default:
		key.place = path.Dir(g.Path)
	}
	return key
}

func (r *Rule) most() int {
	if r.Most > 0 {
		return r.Most
	}
	return DefaultGroup
}

// makeAll puts a task for each group into the backlog.
func (w *work) makeAll(ctx context.Context, workspace string, groups []*group, importers map[string]int) error {
	tasks, changes := make([]*Task, len(groups)), make([]Change, len(groups))
	settings := w.service.settings.Load()
	for i, g := range groups {
		t, err := w.fresh(&New{Kind: KindGap, Workspace: workspace, By: Planner, Attempts: settings.attempts(&g.rule.Route)})
		if err != nil {
			return err
		}
		for _, gap := range g.gaps {
			t.Gaps = append(t.Gaps, gap.ID)
		}
		t.describe(g.gaps, importers)
		t.Title = titleOf(t, g.gaps)
		route := g.rule.Route
		route.Rule = g.rule.Name
		t.takeRoute(&route)
		if changes[i], err = t.move(StateBacklog, ActionCreated, Planner, "for rule "+g.rule.Name, w.now); err != nil {
			return err
		}
		tasks[i] = t
	}
	if err := w.Put(ctx, tasks, changes); err != nil {
		return err
	}
	for i, t := range tasks {
		if err := w.follow(ctx, t, changes[i]); err != nil {
			return err
		}
	}
	return nil
}

// titleOf says in a line what a task of gaps is.
func titleOf(t *Task, gaps []Gap) string {
	if len(gaps) == 1 {
		return clipText(fmt.Sprintf("%s: %s", gaps[0].Path, gaps[0].Message), maxTitle)
	}
	return clipText(fmt.Sprintf("%s: %d × %s", t.Target, len(gaps), t.Rule), maxTitle)
}

// openSome opens tasks of the backlog, the most urgent first, until as many are
// open as may be.
func (s *Service) openSome(ctx context.Context, workspace string) (n int, err error) {
	most := s.settings.Load().Open
	err = s.update(ctx, func(w *work) error {
		n = 0
		open, err := w.CountOpen(ctx, workspace)
		if err != nil || open >= most {
			return err
		}
		waiting, err := w.Backlog(ctx, workspace, most-open)
		if err != nil {
			return err
		}
		for _, t := range waiting {
			to, action, why := StateReady, ActionOpened, "there is room for it"
			if blocked, err := w.blockedBy(ctx, t); err != nil {
				return err
			} else if blocked != "" {
				to, action, why = StateBlocked, "", blocked
			}
			c, err := t.move(to, action, Planner, why, w.now)
			if err != nil {
				return err
			}
			if err := w.put(ctx, t, c); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// reroute makes tasks that nobody works on follow the rules as they are, after the
// rules have changed.
func (s *Service) reroute(ctx context.Context, workspace string) (total int, err error) {
	settings := s.settings.Load()
	if s.routed[workspace] == settings {
		return 0, nil
	}
	after := ""
	for {
		var last string
		err := s.update(ctx, func(w *work) error {
			waiting, err := w.Waiting(ctx, workspace, after, tasksAtOnce)
			last = ""
			if err != nil {
				return err
			}
			for _, t := range waiting {
				last = t.ID
				changed, err := w.routeAnew(ctx, t, settings)
				if err != nil {
					return err
				}
				if changed {
					total++
				}
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		if last == "" {
			break
		}
		after = last
	}
	s.routed[workspace] = settings
	return total, nil
}

// routeAnew stores where a task goes now, if that is not where it went.
func (w *work) routeAnew(ctx context.Context, t *Task, settings *Settings) (bool, error) {
	route := settings.route(t)
	attempts := t.MaxAttempts
	if t.Kind == KindGap {
		attempts = settings.attempts(&route)
	}
	if t.Route == route.Rule && t.Sandbox == route.Sandbox && t.MaxAttempts == attempts && slices.Equal(t.Needs, t.needs(&route)) {
		return false, nil
	}
	t.takeRoute(&route)
	t.MaxAttempts = attempts
	c, err := w.routed(ctx, t, &route)
	if err != nil {
		return false, err
	}
	return true, w.put(ctx, t, c)
}

// routed is the change of a task that goes another way now, on which it may have to
// wait.
func (w *work) routed(ctx context.Context, t *Task, route *Route) (Change, error) {
	why := "no rule is for it"
	if route.Rule != "" {
		why = "for " + route.Rule
	}
	if t.State == StateReady || t.State == StateFailed {
		blocked, err := w.blockedBy(ctx, t)
		if err != nil {
			return Change{}, err
		}
		if blocked != "" {
			return t.move(StateBlocked, ActionRouted, Planner, blocked, w.now)
		}
	}
	return t.note(ActionRouted, Planner, why, w.now), nil
}

// Close ends the task with the key, as done; nil: there is none. It is for what
// mends by itself, such as a subsystem that is healthy again.
func (s *Service) Close(ctx context.Context, key, by, why string) (*Task, error) {
	var closed *Task
	err := s.update(ctx, func(w *work) error {
		closed = nil
		t, err := w.Unclosed(ctx, key)
		if err != nil || t == nil || t.State == StateIntegrating {
			return err
		}
		c, err := t.move(StateDone, "", by, clipText(why, maxWhy), w.now)
		if err != nil {
			return err
		}
		closed = t
		return w.put(ctx, t, c)
	})
	return closed, err
}
