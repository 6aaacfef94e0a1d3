package flow

import (
	"context"
	"fmt"
	"strings"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/task"
)

// keepUp makes the rules as they are, and the agents that there are, hold for a patch
// that was verified, and perhaps approved, under others. It returns the patch as it is
// then: proposed where there are verify steps that it has not passed, verified where
// more have to approve it.
func (e *Engine) keepUp(ctx context.Context, t *task.Task, p *patch.Patch) (*patch.Patch, error) {
	if p.State != patch.StateVerified && p.State != patch.StateApproved {
		return p, nil
	}
	route := e.opt.Tasks.Route(t)
	missing, err := e.opt.Verifier.Missing(p, route.Verify)
	if err != nil {
		return p, fmt.Errorf("compare the verdict of patch %s with the steps that are asked for: %w", p.ID, err)
	}
	if len(missing) > 0 {
		return e.opt.Patches.VerifyAgain(ctx, p.ID, By, "it is verified again, for what is asked for now: "+strings.Join(missing, ", "))
	}
	if p, err = e.opt.Patches.Tighten(ctx, p.ID, By, patch.Rule(route.Approval)); err != nil {
		return p, err
	}
	return e.opt.Patches.Withdraw(ctx, p.ID, By)
}

// behind says where a task goes whose patch is not approved any more; nil: it is.
func behind(p *patch.Patch) *task.Step {
	switch p.State {
	case patch.StateProposed:
		return &task.Step{To: task.StateProposed, Why: p.Reason}
	case patch.StateVerified:
		return &task.Step{To: task.StateAwaiting, Why: p.Reason}
	case patch.StateDenied:
		return &task.Step{To: task.StateDenied, Why: p.Reason, Feedback: p.Reason}
	case patch.StateRolledBack:
		return &task.Step{To: task.StateRolledBack, Why: p.Reason, Feedback: p.Reason}
	}
	return nil
}
