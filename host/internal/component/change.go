package component

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// Action is what a change does to one component.
type Action string

// Actions of a change.
const (
	ActionStart     Action = "start"
	ActionRestart   Action = "restart"
	ActionUpdate    Action = "update"
	ActionStop      Action = "stop"
	ActionUnchanged Action = "unchanged"
)

// Change is a prepared change of the set of components. Call Commit or Discard,
// once; until then no other change is prepared.
type Change struct {
	s       *Supervisor
	Actions map[string]Action
	specs   map[string]*Spec
	fresh   []*unit
}

// PrepareError says which component kept a change from being made.
type PrepareError struct {
	Name string
	Err  error
}

// Error returns the cause; it names the component already.
func (e *PrepareError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PrepareError) Unwrap() error { return e.Err }

// Prepare checks all that can be checked of a change to specs without touching
// what runs: two processes of a service cannot stand side by side as those of a
// plugin can. Where something is wrong nothing has changed, and the error joins a
// [*PrepareError] for each.
func (s *Supervisor) Prepare(_ context.Context, specs []*Spec) (*Change, error) {
	s.apply.Lock()
	c := &Change{s: s, Actions: s.plan(specs), specs: make(map[string]*Spec)}
	var failed []error
	for _, spec := range specs {
		spec = spec.Clone()
		c.specs[spec.Name] = spec
		action := c.Actions[spec.Name]
		if action != ActionStart && action != ActionRestart {
			continue
		}
		if _, err := s.verify(spec); err != nil {
			failed = append(failed, &PrepareError{Name: spec.Name, Err: err})
			continue
		}
		if action != ActionStart {
			continue
		}
		u, err := newUnit(s, spec)
		if err != nil {
			failed = append(failed, &PrepareError{Name: spec.Name, Err: err})
			continue
		}
		c.fresh = append(c.fresh, u)
	}
	if s.ctx.Err() != nil {
		failed = append(failed, errClosed)
	}
	if len(failed) > 0 {
		c.Discard()
		slices.SortFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(failed...)
	}
	return c, nil
}

// plan says what a change to specs does to each component.
func (s *Supervisor) plan(specs []*Spec) map[string]Action {
	actions := make(map[string]Action)
	for _, u := range s.all() {
		actions[u.name] = ActionStop
	}
	for _, spec := range specs {
		u := s.unit(spec.Name)
		if u == nil {
			actions[spec.Name] = ActionStart
			continue
		}
		u.mu.Lock()
		old := u.spec
		u.mu.Unlock()
		switch {
		case old.identity() != spec.identity():
			actions[spec.Name] = ActionRestart
		case !old.sameTreatment(spec):
			actions[spec.Name] = ActionUpdate
		default:
			actions[spec.Name] = ActionUnchanged
		}
	}
	return actions
}

// Commit takes the change over: what is no longer wanted is stopped in reverse
// order, what runs otherwise is replaced, what is new is started in order. It does
// not wait: how each fares stands in the status.
func (c *Change) Commit() {
	s := c.s
	defer s.apply.Unlock()
	gone := make(map[string]*unit)
	s.mu.Lock()
	for name, action := range c.Actions {
		if action == ActionStop {
			gone[name] = s.units[name]
			delete(s.units, name)
		}
	}
	for _, u := range c.fresh {
		u.after = s.ending[u.name]
		s.units[u.name] = u
	}
	s.mu.Unlock()
	for name, action := range c.Actions {
		if action == ActionRestart || action == ActionUpdate {
			s.unit(name).renewAs(c.specs[name], action == ActionRestart)
		}
	}
	s.retire(gone)
	for _, u := range c.fresh {
		go u.run()
	}
	s.changed.Tell()
}

// renewAs gives the unit another spec, and a clean record and another process
// where what runs differs.
func (u *unit) renewAs(spec *Spec, replace bool) {
	u.change(func() {
		u.spec = spec
		u.policy.Policy = spec.Backoff
		if !replace {
			return
		}
		u.renew = u.instance != nil || u.endStart != nil
		u.policy.Reset()
		u.fruitless = 0
		u.retryAt, u.recovering, u.lastErr = time.Time{}, false, nil
		if u.instance == nil && u.endStart == nil && !u.held && !u.halted {
			u.setLocked(StateQueued, "")
			u.setLocked(u.restLocked(), "")
		}
	})
}

// Discard leaves everything as it is.
func (c *Change) Discard() {
	defer c.s.apply.Unlock()
	for _, u := range c.fresh {
		u.log.close()
	}
}
