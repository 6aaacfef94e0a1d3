package flow

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk"
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
	missing, err := e.missing(p, &route)
	if err != nil {
		return p, err
	}
	if len(missing) > 0 {
		return e.opt.Patches.VerifyAgain(ctx, p.ID, By, "it is verified again, for what is asked for now: "+strings.Join(missing, ", "))
	}
	if p, err = e.opt.Patches.Tighten(ctx, p.ID, By, patch.Rule(route.Approval)); err != nil {
		return p, err
	}
	return e.opt.Patches.Withdraw(ctx, p.ID, By)
}

// missing names the verify steps that a patch has not passed.
func (e *Engine) missing(p *patch.Patch, route *task.Route) ([]string, error) {
	missing, err := e.opt.Verifier.Missing(p, route.Verify)
	if err != nil {
		return nil, fmt.Errorf("compare the verdict of patch %s with the steps that are asked for: %w", p.ID, err)
	}
	return missing, nil
}

// stands says whether a patch that is being integrated is one that [Engine.keepUp]
// would leave approved: a backup and a post-check take their time. Otherwise the
// error has [patch.ReasonUnapproved].
func (e *Engine) stands(ctx context.Context, t *task.Task, p *patch.Patch) error {
	route := e.opt.Tasks.Route(t)
	missing, err := e.missing(p, &route)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return sdk.Errorf(codes.Aborted, patch.ReasonUnapproved, "patch %s has not passed what is asked for now: %s", p.ID, strings.Join(missing, ", "))
	}
	return e.opt.Patches.Stands(ctx, p.ID, patch.Rule(route.Approval))
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
