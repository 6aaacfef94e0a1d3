package flow

import (
	"context"
	"errors"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/task"
)

// followDecisions moves tasks on that wait for what people decide of their
// patches.
func (e *Engine) followDecisions(ctx context.Context) {
	for ctx.Err() == nil {
		changed := e.opt.Changed()
		if err := e.reconcile(ctx); err != nil && ctx.Err() == nil {
			e.opt.Logger.Warn("follow what was decided of patches", "error", err)
		}
		pause(ctx, changed, idleWait)
	}
}

// reconcile looks at every task that waits for a decision.
func (e *Engine) reconcile(ctx context.Context) error {
	filter := task.Filter{States: []task.State{task.StateAwaiting}}
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

// decided moves a waiting task to where its patch is.
func (e *Engine) decided(ctx context.Context, t *task.Task) error {
	p, err := e.opt.Patches.Get(ctx, t.Patch)
	if err == nil {
		p, err = e.keepUp(ctx, t, p)
	}
	if err != nil {
		return err
	}
	var to task.Step
	switch p.State {
	case patch.StateProposed:
		to = *behind(p)
	case patch.StateApproved:
		to = task.Step{To: task.StateApproved, Why: "approved"}
	case patch.StateDenied:
		to = task.Step{To: task.StateDenied, Why: p.Reason, Feedback: p.Reason}
	case patch.StateSuperseded:
		to = task.Step{To: task.StateProposed, Why: "another patch takes its place", Patch: p.SupersededBy}
	default:
		return nil
	}
	e.order.Lock()
	defer e.order.Unlock()
	moved, err := e.opt.Tasks.Move(ctx, t.ID, task.StateAwaiting, By, to)
	if isReason(err, reasonTransition) {
		return nil // somebody was faster
	}
	if err != nil {
		return err
	}
	e.tell(moved, Step{Detail: to.Why})
	return nil
}

const reasonTransition = "TASK_TRANSITION"

// RolledBack moves the task of a patch that somebody has rolled back.
func (e *Engine) RolledBack(ctx context.Context, p *patch.Patch, by, why string) error {
	moved, err := e.opt.Tasks.Move(ctx, p.Task, task.StateDone, by, task.Step{To: task.StateRolledBack, Why: why})
	if isReason(err, reasonTransition) {
		return nil
	}
	if err != nil {
		return err
	}
	e.tell(moved, Step{Detail: why})
	return nil
}
