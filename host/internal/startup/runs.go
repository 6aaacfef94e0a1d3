package startup

import (
	"context"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/flow"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk"
)

// runs have tasks worked on here and now. It implements nexus.Runs.
type runs struct{ host *host }

// Start implements nexus.Runs.
func (r runs) Start(ctx context.Context, ref, sandbox, by string) (*task.Task, error) {
	t, err := r.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if t == nil {
		if _, err := r.CheckStart(ctx, ref, sandbox, by); err != nil {
			return nil, err // before there is a task that nobody would work on
		}
		n, err := r.fresh(ctx, ref, sandbox, by)
		if err != nil {
			return nil, err
		}
		if t, err = r.host.tasks.Create(ctx, n); err != nil {
			return nil, err
		}
	}
	if err := startable(t, sandbox, "task "+t.ID); err != nil {
		return nil, err
	}
	if t, err = r.ready(ctx, t, by); err != nil {
		return nil, err
	}
	if t.State != task.StateReady {
		return t, nil // it goes on by itself, or waits for somebody
	}
	begun, err := r.host.flow.Start(ctx, t.ID, sandbox)
	if err != nil && sdk.FromError(err).Reason == task.ReasonBusy {
		return r.host.tasks.Get(ctx, t.ID) // the engine was faster
	}
	return begun, err
}

// CheckStart implements nexus.Runs.
func (r runs) CheckStart(ctx context.Context, ref, sandbox, by string) (*task.Task, error) {
	t, err := r.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if t != nil {
		ref = "task " + t.ID
	} else {
		n, err := r.fresh(ctx, ref, sandbox, by)
		if err != nil {
			return nil, err
		}
		if t, err = r.host.tasks.CheckCreate(ctx, n); err != nil {
			return nil, err
		}
		ref = "gap " + n.Gaps[0] // the task is not there, and nobody could look at it
	}
	if sandbox != "" {
		t.Sandbox = sandbox
	}
	return t, startable(t, sandbox, ref)
}

// find returns the task that ref names, or that of the gap that it names; nil:
// the gap has none.
func (r runs) find(ctx context.Context, ref string) (*task.Task, error) {
	t, err := r.host.tasks.Get(ctx, ref)
	if err == nil || sdk.FromError(err).Code != codes.NotFound {
		return t, err
	}
	g, err := r.host.gaps.Get(ctx, ref)
	if err != nil {
		if sdk.FromError(err).Code == codes.NotFound {
			return nil, sdk.Errorf(codes.NotFound, "RUN_UNKNOWN", "there is no task and no gap %q", ref).
				WithRemedy("list them with: sop gap list, sop task list")
		}
		return nil, err
	}
	if g.State == gap.StateResolved {
		return nil, sdk.Errorf(codes.FailedPrecondition, "GAP_RESOLVED", "gap %s is resolved: there is nothing to do", g.ID)
	}
	page, err := r.host.tasks.List(ctx, task.Filter{Gap: g.ID, States: append(task.OpenStates(), task.StateBacklog, task.StateDead, task.StateDenied), Limit: 1})
	if err != nil || len(page.Tasks) == 0 {
		return nil, err
	}
	return page.Tasks[0], nil
}

// fresh is the task for a gap that has none.
func (r runs) fresh(ctx context.Context, ref, sandbox, by string) (task.New, error) {
	g, err := r.host.gaps.Get(ctx, ref)
	if err != nil {
		return task.New{}, err
	}
	return task.New{
		Kind: task.KindGap, Workspace: g.Workspace, Gaps: []string{g.ID}, Spec: task.Spec{Sandbox: sandbox},
		By: by, Why: "asked for by " + by,
	}, nil
}

// startable refuses a task that no plugin would work on; what names it to people.
func startable(t *task.Task, sandbox, what string) error {
	if t.Sandbox == "" && sandbox == "" && t.State != task.StateProposed && t.Patch == "" {
		return sdk.Errorf(codes.FailedPrecondition, "RUN_NO_SANDBOX", "no rule names a sandbox plugin for %s", what).
			WithRemedy("name one with --sandbox; `sop plugin list` shows them")
	}
	return nil
}

// ready brings a task that waits, or has ended, to where it can be worked on.
func (r runs) ready(ctx context.Context, t *task.Task, by string) (*task.Task, error) {
	const why = "asked for"
	switch t.State {
	case task.StateBacklog:
		return r.host.tasks.Pin(ctx, t.ID, true, by, why)
	case task.StateFailed, task.StateDead, task.StateDenied, task.StateCancelled, task.StateRolledBack:
		return r.host.tasks.Retry(ctx, t.ID, by, why)
	case task.StateBlocked:
		return nil, sdk.Errorf(codes.FailedPrecondition, "TASK_BLOCKED", "task %s %s", t.ID, t.Reason).
			WithRemedy("see what it depends on: sop task show %s", t.ID)
	}
	return t, nil
}

// Try implements nexus.Runs.
func (r runs) Try(ctx context.Context, ref, sandbox, by string) (trial *nexus.Trial, err error) {
	t, err := r.CheckStart(ctx, ref, sandbox, by)
	if err != nil {
		return nil, err
	}
	run, err := r.host.flow.Try(ctx, t)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := run.Close(); err == nil {
			err = closeErr
		}
	}()
	trial = &nexus.Trial{Outcome: string(run.Outcome), Explanation: run.Why, Diff: run.Diff, Evidence: run.Evidence}
	if run.Set != nil {
		for _, rejected := range run.Set.Rejected {
			trial.Rejected = append(trial.Rejected, rejected.String())
		}
	}
	return trial, nil
}

// Watch implements nexus.Runs.
func (r runs) Watch(ctx context.Context, id string, send func(nexus.RunStep) error) error {
	t, err := r.host.tasks.Get(ctx, id)
	if err != nil {
		return err
	}
	steps, stop := r.host.flow.Watch(t.ID)
	defer stop()
	sent := task.State("")
	for {
		changed := r.host.work.Wait()
		// How it stands is read from the store: steps may be missed, states may not.
		if t, err = r.host.tasks.Get(ctx, t.ID); err != nil {
			return err
		}
		if settled := r.settled(ctx, t); settled || t.State != sent {
			if err := r.drain(steps, send, &sent); err != nil {
				return err
			}
			if settled || t.State != sent {
				if err := send(runStep(t, settled)); err != nil || settled {
					return err
				}
				sent = t.State
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case s := <-steps:
			if err := sendStep(s, send, &sent); err != nil {
				return err
			}
		}
	}
}

// drain sends the steps that are there already.
func (r runs) drain(steps <-chan flow.Step, send func(nexus.RunStep) error, sent *task.State) error {
	for {
		select {
		case s := <-steps:
			if err := sendStep(s, send, sent); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func sendStep(s flow.Step, send func(nexus.RunStep) error, sent *task.State) error {
	if s.Phase == "" {
		if s.State == *sent {
			return nil
		}
		*sent = s.State
	}
	return send(nexus.RunStep{At: s.At, State: string(s.State), Phase: s.Phase, Detail: s.Detail, Remedy: s.Remedy, Patch: s.Patch})
}

func runStep(t *task.Task, settled bool) nexus.RunStep {
	return nexus.RunStep{At: t.ChangedAt, State: string(t.State), Detail: t.Reason, Patch: t.Patch, Settled: settled}
}

// settled says that nothing goes on with a task by itself.
func (r runs) settled(ctx context.Context, t *task.Task) bool {
	switch t.State {
	case task.StateAwaiting:
		// What was decided of the patch takes a moment to reach the task.
		p, err := r.host.patches.Get(ctx, t.Patch)
		return err != nil || p.State == patch.StateVerified
	case task.StateFailed, task.StateBlocked, task.StateBacklog:
		return true
	case task.StateReady:
		return t.Sandbox == ""
	}
	return t.State.Closed()
}
