package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/task"
)

// defaultRunTime bounds a run whose rule has no budget of time.
const defaultRunTime = 10 * time.Minute

// generate has a sandbox plugin work on a task, and proposes what it changed.
func (e *Engine) generate(ctx context.Context, t *task.Task) error {
	plugin := t.Sandbox // of this run; the task's own may be another
	if plugin == "" {
		return e.fail(ctx, t, task.Failure{Why: "no sandbox plugin is named for it: add a rule, or name one", Final: true})
	}
	if err := e.advance(ctx, t, task.Step{To: task.StateRunning, Why: "in the sandbox " + plugin}); err != nil {
		return err
	}
	run, err := e.runSandbox(ctx, t, plugin)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return e.fail(ctx, t, task.Failure{Why: "the run could not be had: " + plain(err), Final: !temporary(err)})
	}
	err = e.concludeRun(ctx, t, plugin, run)
	return errors.Join(err, run.Close())
}

// runSandbox makes one run of a sandbox plugin for a task.
func (e *Engine) runSandbox(ctx context.Context, t *task.Task, plugin string) (*Run, error) {
	path, err := e.opt.Workspaces.Root(t.Workspace)
	if err != nil {
		return nil, err
	}
	pkg, err := e.opt.Tasks.Package(ctx, t)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(pkg)
	if err != nil {
		return nil, fmt.Errorf("write the task package: %w", err)
	}
	limit := e.opt.Tasks.Route(t).Budget.Wall
	if limit == 0 {
		limit = defaultRunTime
	}
	secret, end, err := e.opt.Tokens.Run(ctx, plugin, t, limit)
	if err != nil {
		return nil, err
	}
	defer end()
	return e.opt.Generator.Run(ctx, RunRequest{
		Plugin: plugin, ID: runID(t), Root: path, Package: text, Token: secret, Limit: limit,
	}, e.progress(t))
}

// concludeRun does with a task what its run has come to.
func (e *Engine) concludeRun(ctx context.Context, t *task.Task, plugin string, run *Run) error {
	switch run.Outcome {
	case Changed:
		return e.propose(ctx, t, plugin, run)
	case Unchanged:
		return e.nothingToDo(ctx, t, run)
	case GaveUp, BadTask:
		return e.fail(ctx, t, task.Failure{Why: run.Why, Feedback: run.Why, Final: true})
	case NoBudget, Crashed:
		return e.fail(ctx, t, task.Failure{Why: run.Why, Feedback: run.Why})
	}
	return e.fail(ctx, t, task.Failure{Why: fmt.Sprintf("the run ended with no outcome that is known (%q)", run.Outcome)})
}

// nothingToDo looks whether the gap is really gone.
func (e *Engine) nothingToDo(ctx context.Context, t *task.Task, run *Run) error {
	if err := e.opt.Workspaces.Rescan(ctx, t.Workspace); err != nil {
		return e.fail(ctx, t, task.Failure{Why: "the generator found nothing to do, and the rescan failed: " + plain(err)})
	}
	now, err := e.opt.Tasks.Get(ctx, t.ID)
	if err != nil {
		return err
	}
	if now.State == task.StateDone {
		*t = *now
		e.tell(t, Step{Detail: "the gap is gone"})
		return nil
	}
	return e.fail(ctx, t, task.Failure{Why: "the generator found nothing to do, and the gap is still there: " + run.Why, Final: true})
}

// propose makes a patch of what a run has changed.
func (e *Engine) propose(ctx context.Context, t *task.Task, plugin string, run *Run) error {
	if rejected := run.Set.Rejected; len(rejected) > 0 {
		why := fmt.Sprintf("the change is rejected: %s", rejected[0])
		return e.fail(ctx, t, task.Failure{Why: why, Feedback: why})
	}
	if len(run.Set.Changes) == 0 {
		why := "the generator says that it made a change, and there is none"
		return e.fail(ctx, t, task.Failure{Why: why, Feedback: why})
	}
	path, err := e.opt.Workspaces.Root(t.Workspace)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // only read from
	before, err := e.open(ctx, t.Patch)
	if err != nil {
		return err
	}
	p, err := e.opt.Patches.Propose(ctx, patch.Proposal{
		Task: t.ID, Workspace: t.Workspace, Proposer: "plugin:sandbox." + plugin, Title: t.Title,
		Set: run.Set, Content: run.Content, Old: patch.OldFrom(root), Evidence: run.Evidence,
		Rule: patch.Rule(e.opt.Tasks.Route(t).Approval), Supersedes: before, Key: runID(t),
	})
	if err != nil {
		return fmt.Errorf("propose the change: %w", err)
	}
	return e.advance(ctx, t, task.Step{To: task.StateProposed, Why: run.Why, Patch: p.ID})
}

// open returns the id of a patch of which something may still become, and nothing
// for any other: it has ended, and stays as it is.
func (e *Engine) open(ctx context.Context, id string) (string, error) {
	if id == "" {
		return "", nil
	}
	p, err := e.opt.Patches.Get(ctx, id)
	if err != nil {
		return "", err
	}
	if !p.State.Open() {
		return "", nil
	}
	return id, nil
}
