package task

import (
	"context"
	"slices"
)

// TypeMaintenance is the type of tasks that are made of maintenance requests. A
// rule is for them only if its match names it.
const TypeMaintenance = "maintenance"

// Ensure makes a task, or finds the one that is not closed and has the same key,
// which is handed over if it has another owner by now.
func (s *Service) Ensure(ctx context.Context, n New) (*Task, error) {
	var done *Task
	err := s.update(ctx, func(w *work) error {
		done = nil
		if n.Key != "" {
			other, err := w.Unclosed(ctx, n.Key)
			if err != nil {
				return err
			}
			if done = other; other != nil {
				return w.handOver(ctx, other, n.Spec.Owner, n.By)
			}
		}
		t, c, err := w.create(ctx, &n)
		if err != nil {
			return err
		}
		done = t
		return w.put(ctx, t, c)
	})
	return done, err
}

// handOver gives a task another owner.
func (w *work) handOver(ctx context.Context, t *Task, owner, by string) error {
	if t.Spec.Owner == owner {
		return nil
	}
	t.Spec.Owner = owner
	route := w.service.Route(t)
	t.takeRoute(&route)
	return w.put(ctx, t, t.note(ActionRouted, by, "it is "+owner+"'s to see to", w.now))
}

// isFor says whether a rule is for a task. One of maintenance is not generated for
// unless a rule says so, and never without a workspace.
func (r *Rule) isFor(t *Task) bool {
	if t.Kind == KindMaintenance && (t.Workspace == "" || !slices.Contains(r.Match.Types, TypeMaintenance)) {
		return false
	}
	return r.Match.passes(t.subject())
}

// unruled is where a task goes that no rule is for: to its owner, if it has one.
func (t *Task) unruled() Route { return Route{Rule: t.Spec.Owner} }

// basePriority is that of a task without gaps.
func (t *Task) basePriority() int {
	return (slices.Index(ranks, t.Severity) + 1) * severityPoints
}
