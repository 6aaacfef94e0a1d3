package flow

import (
	"context"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk"
)

// manualRuns is how many runs that somebody asked for there may be at a time,
// beside those of the engine's own.
const manualRuns = 2

// job is a task that somebody wants worked on now.
type job struct {
	id, sandbox string
	claimed     chan<- claimed // has room for the one answer
}

type claimed struct {
	task *task.Task
	err  error
}

// Start works on a task now that waits for generation, with a sandbox plugin, or
// with the one of its rule. It returns the task when that has begun; from the
// proposal on the task goes its way by itself.
func (e *Engine) Start(ctx context.Context, id, sandbox string) (*task.Task, error) {
	answer := make(chan claimed, 1)
	select {
	case e.jobs <- job{id, sandbox, answer}:
	default:
		busy := sdk.Errorf(codes.ResourceExhausted, "RUNS_BUSY", "%d runs that were asked for are under way, which is as many as may be", manualRuns).
			WithRemedy("wait until one has ended")
		busy.Retryable = true
		return nil, busy
	}
	select {
	case a := <-answer:
		return a.task, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serveJobs does what somebody asked for, one after the other.
func (e *Engine) serveJobs(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-e.jobs:
			e.do(ctx, j)
		}
	}
}

func (e *Engine) do(ctx context.Context, j job) {
	t, err := e.claim(ctx, task.ClaimRequest{Stage: task.StageGenerate, By: By, ID: j.id})
	if err == nil && t == nil {
		err = sdk.Errorf(codes.Aborted, "TASK_BUSY", "task %s cannot be worked on now", j.id)
	}
	if err != nil {
		j.claimed <- claimed{err: err}
		return
	}
	copied := *t
	if j.sandbox != "" {
		t.Sandbox = j.sandbox
	}
	j.claimed <- claimed{task: &copied}
	e.step(ctx, generation, t)
}

// Try makes a run for a task and leaves the task as it is. The run is the
// caller's to close.
func (e *Engine) Try(ctx context.Context, t *task.Task) (*Run, error) {
	if err := e.opt.Halted(); err != nil {
		return nil, err
	}
	ctx, end := e.begin(ctx)
	defer end(nil)
	return e.runSandbox(ctx, t, t.Sandbox)
}
