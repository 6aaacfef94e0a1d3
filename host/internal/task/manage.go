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
		c, err := t.move(StateReady, ActionRetried, by, clipText(why, maxWhy), w.now)
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
			c, err := t.move(StateReady, action, by, why, w.now)
			return t, c, err
		}
		return t, t.note(action, by, why, w.now), nil
	}
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
