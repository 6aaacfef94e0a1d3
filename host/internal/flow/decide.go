package flow

import (
	"context"
	"errors"
	"fmt"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/task"
)

// followDecisions moves tasks on as people decide about their patches.
func (e *Engine) followDecisions(ctx context.Context) {
	for ctx.Err() == nil {
		changed := e.opt.Changed()
		if err := errors.Join(e.reconcile(ctx), e.endPatches(ctx)); err != nil && ctx.Err() == nil {
			e.opt.Logger.Warn("follow what was decided of patches", "error", err)
		}
		pause(ctx, changed, idleWait)
	}
}

// reconcile looks at every task whose patch somebody may have decided about, and
// that nobody holds: whoever holds one looks itself.
func (e *Engine) reconcile(ctx context.Context) error {
	filter := task.Filter{States: []task.State{task.StateAwaiting, task.StateProposed, task.StateApproved}}
	var failed []error
	for {
		page, err := e.opt.Tasks.List(ctx, filter)
		if err != nil {
			return err
		}
		for _, t := range page.Tasks {
			failed = append(failed, e.decided(ctx, t)) // one that cannot be helped holds up no other
		}
		if page.Next == "" {
			return errors.Join(failed...)
		}
		filter.Token = page.Next
	}
}

// decided moves a task to where its patch is.
func (e *Engine) decided(ctx context.Context, t *task.Task) error {
	p, err := e.opt.Patches.Get(ctx, t.Patch)
	if err == nil && t.State == task.StateAwaiting {
		p, err = e.keepUp(ctx, t, p)
	}
	if err != nil {
		return err
	}
	var to task.Step
	switch {
	case p.State == patch.StateDenied:
		to = *behind(p)
	case t.State != task.StateAwaiting:
		return nil // it is due by itself
	case p.State == patch.StateProposed:
		to = *behind(p)
	case p.State == patch.StateApproved:
		to = task.Step{To: task.StateApproved, Why: "approved"}
	case p.State == patch.StateSuperseded:
		to = task.Step{To: task.StateProposed, Why: "another patch takes its place", Patch: p.SupersededBy}
	default:
		return nil
	}
	e.order.Lock()
	defer e.order.Unlock()
	moved, err := e.opt.Tasks.Move(ctx, t.ID, t.State, By, to)
	if isReason(err, reasonTransition) {
		return nil // somebody was faster
	}
	if err != nil {
		return err
	}
	e.tell(moved, Step{Detail: to.Why})
	return nil
}

// endPatches ends the patches that nobody has to decide about any more: of tasks that
// have ended, and of those that go on with another patch.
func (e *Engine) endPatches(ctx context.Context) error {
	filter := patch.Filter{States: patch.OpenStates()}
	var failed []error
	for {
		page, err := e.opt.Patches.List(ctx, filter)
		if err != nil {
			return err
		}
		for _, p := range page.Patches {
			failed = append(failed, e.endPatch(ctx, p))
		}
		if page.Next == "" {
			return errors.Join(failed...)
		}
		filter.Token = page.Next
	}
}

func (e *Engine) endPatch(ctx context.Context, p *patch.Patch) error {
	if p.Task == "" {
		return nil
	}
	t, err := e.opt.Tasks.Get(ctx, p.Task) // after the patch was looked at, which is there before it is the task's
	if errors.Is(err, task.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	why := leftBy(t, p)
	if why == "" {
		return nil
	}
	_, err = e.opt.Patches.Reject(ctx, p.ID, By, why)
	if isReason(err, patch.ReasonTransition) {
		return nil // somebody was faster
	}
	return err
}

// leftBy says why nothing becomes of a patch of the task; empty: it may. A task that
// is held may have a patch that it does not name yet.
func leftBy(t *task.Task, p *patch.Patch) string {
	switch {
	case t.State.Closed():
		return fmt.Sprintf("its task is %s: %s", t.State, t.Reason)
	case t.Patch == p.ID:
		return ""
	case t.State == task.StateProposed, t.State == task.StateAwaiting, t.State == task.StateApproved:
		return "its task goes on with patch " + t.Patch
	}
	return ""
}

// denied ends a task that somebody has decided against while it was verified or
// integrated, and says whether somebody has.
func (e *Engine) denied(ctx context.Context, t *task.Task) (bool, error) {
	if t.State != task.StateVerifying && t.State != task.StateIntegrating {
		return false, nil // the patch is of an attempt before
	}
	p, err := e.opt.Patches.Get(ctx, t.Patch)
	if err != nil || p.State != patch.StateDenied {
		return false, err
	}
	return true, e.advance(ctx, t, *behind(p))
}

const reasonTransition = "TASK_TRANSITION"

// RolledBack moves the task of a patch that was rolled back, if it was done with
// that, and says whether it was. What is still being integrated whoever holds it
// moves.
func (e *Engine) RolledBack(ctx context.Context, p *patch.Patch, by string) (moved bool, err error) {
	t, err := e.opt.Tasks.Get(ctx, p.Task)
	if err != nil || t.State != task.StateDone || t.Patch != p.ID {
		return false, err
	}
	e.order.Lock()
	defer e.order.Unlock()
	t, err = e.opt.Tasks.Move(ctx, p.Task, task.StateDone, by, task.Step{To: task.StateRolledBack, Why: p.Reason})
	if isReason(err, reasonTransition) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e.tell(t, Step{Detail: p.Reason})
	return true, nil
}
