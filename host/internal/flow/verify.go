package flow

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/task"
)

// verify tries a proposed patch out.
func (e *Engine) verify(ctx context.Context, t *task.Task) error {
	p, err := e.opt.Patches.StartVerify(ctx, t.Patch, By)
	if err != nil {
		return e.patchTrouble(ctx, t, err)
	}
	root, err := e.opt.Workspaces.Root(t.Workspace)
	if err != nil {
		return err
	}
	verdict, err := e.opt.Verifier.Verify(ctx, Check{
		Task: t, Patch: p, Content: e.opt.Patches.Content(p), Root: root, Steps: e.opt.Tasks.Route(t).Verify,
	}, e.progress(t))
	switch {
	case errors.Is(err, sandbox.ErrConflict):
		return e.rebase(ctx, t, p, root)
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return e.fail(ctx, t, task.Failure{Why: "the patch could not be verified: " + plain(err)})
	}
	verdict.Rule = patch.Rule(e.opt.Tasks.Route(t).Approval)
	if p, err = e.opt.Patches.Verified(ctx, p.ID, p.Hash, By, verdict); err != nil {
		return err
	}
	if p.State != patch.StateVerified {
		return e.fail(ctx, t, task.Failure{Why: "verification failed: " + verdict.Why, Feedback: verdict.Why})
	}
	return e.askApproval(ctx, t, p)
}

// patchTrouble ends an attempt whose patch is not in the state that its task
// says.
func (e *Engine) patchTrouble(ctx context.Context, t *task.Task, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return e.fail(ctx, t, task.Failure{Why: "the patch cannot be taken further: " + plain(err)})
}

// askApproval lets a verified patch through where a rule says so, and waits for
// somebody's approval otherwise.
func (e *Engine) askApproval(ctx context.Context, t *task.Task, p *patch.Patch) error {
	route := e.opt.Tasks.Route(t)
	if p.Rule == patch.Auto {
		approved, ok, err := e.opt.Patches.AutoApprove(ctx, p.ID, route.Rule)
		if err != nil {
			return err
		}
		if ok {
			return e.advance(ctx, t, task.Step{To: task.StateApproved, Why: "approved by the rule " + route.Rule, Patch: approved.ID})
		}
	}
	return e.await(ctx, t, p, "verified")
}

// await has a task wait for somebody's approval of its patch, and says how that is
// given.
func (e *Engine) await(ctx context.Context, t *task.Task, p *patch.Patch, why string) error {
	return e.advanceAnd(ctx, t, task.Step{To: task.StateAwaiting, Why: why}, Step{
		Detail: why + "; waits for approval", Remedy: fmt.Sprintf("sop patch show %s, then sop patch approve %s", p.ID, p.ID),
	})
}

// rebase makes a patch fit a workspace that has moved on, or has the task done
// anew.
func (e *Engine) rebase(ctx context.Context, t *task.Task, p *patch.Patch, root string) error {
	next, err := e.rebased(ctx, p, root)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		why := "the workspace has changed since, and the patch does not fit any more: " + plain(err)
		return e.fail(ctx, t, task.Failure{Why: why, Feedback: why})
	}
	switch {
	case next.State == patch.StateSuperseded:
		return e.overtaken(ctx, t, next)
	case next.ID == p.ID:
		return e.unmoved(ctx, t, next)
	}
	return e.advance(ctx, t, task.Step{To: task.StateProposed, Why: "the workspace has changed; the patch was merged", Patch: next.ID})
}

// overtaken has a rescan decide about a task whose patch has nothing left to do:
// somebody has made the same change.
func (e *Engine) overtaken(ctx context.Context, t *task.Task, p *patch.Patch) error {
	if err := e.opt.Workspaces.Rescan(ctx, t.Workspace); err != nil {
		return e.fail(ctx, t, task.Failure{Why: p.Reason + ", and the rescan failed: " + plain(err)})
	}
	now, err := e.opt.Tasks.Get(ctx, t.ID)
	if err != nil {
		return err
	}
	if now.State == task.StateDone { // the scan has seen to it
		*t = *now
		e.tell(t, Step{Detail: p.Reason})
		return nil
	}
	live, err := e.opt.Tasks.GapsLive(ctx, t.ID)
	if err != nil {
		return err
	}
	if len(live) == 0 {
		return e.advance(ctx, t, task.Step{To: task.StateDone, Why: p.Reason})
	}
	why := fmt.Sprintf("%s, and %d of its gaps are still there", p.Reason, len(live))
	return e.fail(ctx, t, task.Failure{Why: why, Feedback: why})
}

// mostUnmoved is how often a patch is tried again whose base has only seemed to move.
const mostUnmoved = 10

// unmoved has a patch tried again as it is, with its approvals: what it replaces
// seemed to have changed and has not, such as a file that somebody has touched.
func (e *Engine) unmoved(ctx context.Context, t *task.Task, p *patch.Patch) error {
	const why = "what the patch replaces was touched, and is as it was"
	p, err := e.opt.Patches.Get(ctx, p.ID)
	if err != nil {
		return err
	}
	tried := 0
	for _, c := range p.History {
		if c.Action == patch.Undone || c.Action == patch.Reopened {
			tried++
		}
	}
	if tried > mostUnmoved {
		return e.fail(ctx, t, task.Failure{Why: why + ", again and again"})
	}
	if p.State == patch.StateVerifying {
		if _, err := e.opt.Patches.VerifyAgain(ctx, p.ID, By, why); err != nil {
			return err
		}
	}
	return e.wait(ctx, t, releaseWait, Step{Phase: "waiting", Detail: why + "; it is tried again"})
}

func (e *Engine) rebased(ctx context.Context, p *patch.Patch, path string) (next *patch.Patch, err error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return e.opt.Patches.Rebase(ctx, p.ID, root, By)
}
