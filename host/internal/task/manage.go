package task

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// errCheckOnly undoes a transaction that was a check.
var errCheckOnly = errors.New("only checked")

// check runs a transaction that changes one task, undoes it, and returns the task
// as it would be.
func (s *Service) check(ctx context.Context, change changing) (*Task, error) {
	var done *Task
	err := s.store.Update(ctx, func(tx Tx) error {
		t, _, err := change(&work{Tx: tx, service: s, now: s.now()})
		if err != nil {
			return err
		}
		done = t
		return errCheckOnly
	})
	if err != nil && !errors.Is(err, errCheckOnly) {
		return nil, err
	}
	return done, nil
}

// changing is one change of one task.
type changing func(w *work) (*Task, Change, error)

// Cancel ends a task. Whoever holds it is told to stop with the next heartbeat,
// and nothing that is brought afterwards is taken over. While a patch is being
// put into the workspace it is refused.
func (s *Service) Cancel(ctx context.Context, ref, by, why string) (*Task, error) {
	return s.act(ctx, cancel(ctx, ref, by, why))
}

// CheckCancel changes nothing and returns the task as it would be.
func (s *Service) CheckCancel(ctx context.Context, ref, by, why string) (*Task, error) {
	return s.check(ctx, cancel(ctx, ref, by, why))
}

func cancel(ctx context.Context, ref, by, why string) changing {
	return func(w *work) (*Task, Change, error) {
		t, err := w.Get(ctx, ref)
		if err != nil {
			return nil, Change{}, err
		}
		if t.State == StateIntegrating {
			return nil, Change{}, sdk.Errorf(codes.FailedPrecondition, ReasonTransition, "task %s is being integrated", t.ID).
				WithRemedy("wait until it has ended; a patch that is in the workspace can be rolled back")
		}
		c, err := t.move(StateCancelled, "", by, clipText(why, maxWhy), w.now)
		return t, c, err
	}
}

// Retry makes a task ready that has failed or ended, with all its attempts before
// it.
func (s *Service) Retry(ctx context.Context, ref, by, why string) (*Task, error) {
	return s.act(ctx, retry(ctx, ref, by, why))
}

// CheckRetry changes nothing and returns the task as it would be.
func (s *Service) CheckRetry(ctx context.Context, ref, by, why string) (*Task, error) {
	return s.check(ctx, retry(ctx, ref, by, why))
}

func retry(ctx context.Context, ref, by, why string) changing {
	return func(w *work) (*Task, Change, error) {
		t, err := w.Get(ctx, ref)
		if err != nil {
			return nil, Change{}, err
		}
		if t.State != StateFailed && !t.State.Closed() || t.State == StateDone {
			return nil, Change{}, sdk.Errorf(codes.FailedPrecondition, ReasonTransition, "task %s is %s: there is nothing to retry", t.ID, t.State).
				WithRemedy("a task can be retried that has failed, or was denied, cancelled or rolled back")
		}
		t.Attempts, t.Interruptions = 0, 0
		c, err := w.ready(ctx, t, ActionRetried, by, why)
		return t, c, err
	}
}

// Pin puts a task before all that are not pinned, or takes it back among them. One
// that waits in the backlog is opened.
func (s *Service) Pin(ctx context.Context, ref string, pinned bool, by, why string) (*Task, error) {
	return s.act(ctx, pin(ctx, ref, pinned, by, why))
}

// CheckPin changes nothing and returns the task as it would be.
func (s *Service) CheckPin(ctx context.Context, ref string, pinned bool, by, why string) (*Task, error) {
	return s.check(ctx, pin(ctx, ref, pinned, by, why))
}

func pin(ctx context.Context, ref string, pinned bool, by, why string) changing {
	return func(w *work) (*Task, Change, error) {
		t, err := w.Get(ctx, ref)
		if err != nil {
			return nil, Change{}, err
		}
		t.Pinned = pinned
		action := ActionPinned
		if !pinned {
			action = ActionUnpinned
		}
		why = clipText(why, maxWhy)
		if pinned && t.State == StateBacklog {
			c, err := w.ready(ctx, t, action, by, why)
			return t, c, err
		}
		return t, t.note(action, by, why, w.now), nil
	}
}

// Give has a sandbox plugin work on a task from now on, in the place of what its rule
// says: on one that waits when its turn comes, on one that has failed for good, was
// denied or rolled back, anew. A task that somebody works on, or of which there is a
// patch under way, stays as it is, and so does one that is done or that somebody has
// cancelled: then given is false.
func (s *Service) Give(ctx context.Context, ref, sandbox, by, why string) (given bool, err error) {
	err = s.update(ctx, func(w *work) error {
		given = false
		t, err := w.Get(ctx, ref)
		if err != nil {
			return err
		}
		var c Change
		switch t.State {
		case StateBacklog, StateReady, StateBlocked, StateFailed:
			t.Spec.Sandbox, t.Sandbox = sandbox, sandbox
			c = t.note(ActionRouted, by, clipText(why, maxWhy), w.now)
		case StateDead, StateDenied, StateRolledBack:
			t.Spec.Sandbox, t.Sandbox = sandbox, sandbox
			t.Attempts, t.Interruptions = 0, 0
			if c, err = w.ready(ctx, t, ActionRetried, by, why); err != nil {
				return err
			}
		default:
			return nil
		}
		given = true
		return w.put(ctx, t, c)
	})
	return given, err
}

// ready moves a task to where it is worked on, or to where it waits for what it
// depends on.
func (w *work) ready(ctx context.Context, t *Task, action Action, by, why string) (Change, error) {
	blocked, err := w.blockedBy(ctx, t)
	if err != nil {
		return Change{}, err
	}
	if blocked != "" {
		return t.move(StateBlocked, action, by, blocked, w.now)
	}
	return t.move(StateReady, action, by, clipText(why, maxWhy), w.now)
}

// Move takes on a task that nobody holds, for whoever has decided about it, and
// only while it is in the state from.
func (s *Service) Move(ctx context.Context, ref string, from State, by string, step Step) (*Task, error) {
	return s.act(ctx, func(w *work) (*Task, Change, error) {
		t, err := w.Get(ctx, ref)
		if err != nil {
			return nil, Change{}, err
		}
		switch {
		case t.State != from:
			return nil, Change{}, sdk.Errorf(codes.FailedPrecondition, ReasonTransition, "task %s is %s, and not %s any more", t.ID, t.State, from)
		case from.Held() || step.To.Held():
			return nil, Change{}, sdk.Errorf(codes.FailedPrecondition, ReasonTransition, "task %s is %s: that is for who holds it", t.ID, t.State)
		}
		c, err := w.step(t, by, step)
		return t, c, err
	})
}
