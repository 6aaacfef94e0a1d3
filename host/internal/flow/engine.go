package flow

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/task"
)

// Options are what an engine calls. Fill in every field but those that say
// otherwise.
type Options struct {
	Tasks      Tasks
	Patches    Patches
	Generator  Generator
	Verifier   Verifier
	Backups    Backups
	Integrator Integrator
	Workspaces Workspaces
	Tokens     Tokens
	Records    Records
	// Changed returns a channel that is closed when a task or a patch has changed.
	Changed func() <-chan struct{}
	// Halted says why nothing may be begun; nil while all is well.
	Halted func() error
	Logger hclog.Logger
	// OnStep is told each step, from several goroutines; it must not block. nil is
	// fine.
	OnStep func(Step)
	// Generators and Verifiers are how many runs of each there may be at a time;
	// 0 means 2 and 1.
	Generators, Verifiers int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// By is who the engine is, in records.
const By = task.HostClaimant

// Engine takes tasks through the loop.
type Engine struct {
	opt  Options
	jobs chan job
	// order is held while a task is changed and that is told, so that steps are told
	// in the order in which they happened.
	order sync.Mutex

	busy  sync.Mutex
	works map[*work]struct{} // under way

	watch    sync.Mutex
	watchers map[*watcher]struct{}
}

// New makes an engine that does nothing until Run.
func New(opt Options) *Engine {
	if opt.Generators == 0 {
		opt.Generators = 2
	}
	if opt.Verifiers == 0 {
		opt.Verifiers = 1
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Engine{opt: opt, jobs: make(chan job), works: make(map[*work]struct{}), watchers: make(map[*watcher]struct{})}
}

// A stage is a part of the way that one worker goes with a task that it holds.
type stage struct {
	name task.Stage
	work func(e *Engine, ctx context.Context, t *task.Task) error
}

// The parts of the way, in order. Between them nobody holds the task.
var (
	generation   = stage{task.StageGenerate, (*Engine).generate}
	verification = stage{task.StageVerify, (*Engine).verify}
	integrating  = stage{task.StageIntegrate, (*Engine).integrate}
)

// Run works until ctx is done, and returns when nothing of it goes on. Changes
// of workspaces that a killed host left half done must have been recovered.
func (e *Engine) Run(ctx context.Context) {
	var workers sync.WaitGroup
	start := func(s stage, count int) {
		for range count {
			workers.Go(func() { e.serve(ctx, s) })
		}
	}
	start(generation, e.opt.Generators)
	start(verification, e.opt.Verifiers)
	start(integrating, 1)
	for range manualRuns {
		workers.Go(func() { e.serveJobs(ctx) })
	}
	workers.Go(func() { e.followDecisions(ctx) })
	workers.Wait()
}

const (
	// busyWait is how long a stage waits that has something due and cannot claim
	// it: limits were reached, or the store is in trouble.
	busyWait = time.Second
	// idleWait is how long a stage waits at most before it looks again.
	idleWait = time.Minute
)

// serve takes one task after the other through a stage.
func (e *Engine) serve(ctx context.Context, s stage) {
	for ctx.Err() == nil {
		changed := e.opt.Changed()
		if e.opt.Halted() != nil {
			pause(ctx, changed, busyWait)
			continue
		}
		wait := e.untilDue(ctx, s.name)
		if wait <= 0 {
			t, err := e.claim(ctx, task.ClaimRequest{Stage: s.name, By: By})
			if err != nil && ctx.Err() == nil {
				e.opt.Logger.Warn("claim a task", "stage", s.name, "error", err)
			}
			if t != nil {
				e.step(ctx, s, t)
				continue
			}
			wait = busyWait
		}
		pause(ctx, changed, wait)
	}
}

// untilDue is how long it is until a task of the stage is due.
func (e *Engine) untilDue(ctx context.Context, s task.Stage) time.Duration {
	due, ok, err := e.opt.Tasks.NextDue(ctx, s)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			e.opt.Logger.Warn("look for tasks that are due", "stage", s, "error", err)
		}
		return busyWait
	case !ok:
		return idleWait
	}
	return min(due.Sub(e.opt.Now()), idleWait)
}

// pause waits until something has changed, for a time at most.
func pause(ctx context.Context, changed <-chan struct{}, atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	}
}

// claim takes a task for a stage, unless all work is halted.
func (e *Engine) claim(ctx context.Context, r task.ClaimRequest) (*task.Task, error) {
	if err := e.opt.Halted(); err != nil {
		return nil, err
	}
	e.order.Lock()
	defer e.order.Unlock()
	t, err := e.opt.Tasks.Claim(ctx, r)
	if t != nil {
		e.tell(t, Step{})
	}
	return t, err
}

// step takes a task that is held through a stage.
func (e *Engine) step(ctx context.Context, s stage, t *task.Task) {
	err := e.holding(ctx, t, func(ctx context.Context) error { return s.work(e, ctx, t) })
	if err == nil {
		return
	}
	if ctx.Err() == nil {
		e.opt.Logger.Warn("a task was not taken through a stage", "task", t.ID, "stage", s.name, "error", err)
	}
	if ended(ctx, err) || temporary(err) {
		e.giveBack(ctx, t, err)
		return
	}
	// It would be so again: that counts as an attempt, so that it has an end.
	if err := e.fail(ctx, t, task.Failure{Why: plain(err)}); err != nil {
		e.giveBack(ctx, t, err)
	}
}

// advance moves a task on and tells of it.
func (e *Engine) advance(ctx context.Context, t *task.Task, s task.Step) error {
	return e.advanceAnd(ctx, t, s, Step{Detail: s.Why})
}

// advanceAnd takes a task on and tells of it in the given words.
func (e *Engine) advanceAnd(ctx context.Context, t *task.Task, s task.Step, told Step) error {
	e.order.Lock()
	defer e.order.Unlock()
	moved, err := e.opt.Tasks.Advance(ctx, t.Hold(), s)
	if err != nil {
		return fmt.Errorf("move task %s to %s: %w", t.ID, s.To, err)
	}
	*t = *moved
	e.tell(t, told)
	return nil
}

// fail ends an attempt and tells of it. There is no other where the patch was
// denied meanwhile.
func (e *Engine) fail(ctx context.Context, t *task.Task, f task.Failure) error {
	if denied, err := e.denied(ctx, t); denied || err != nil {
		return err
	}
	e.order.Lock()
	defer e.order.Unlock()
	moved, err := e.opt.Tasks.Fail(ctx, t.Hold(), f)
	if err != nil {
		return fmt.Errorf("put down that task %s has failed: %w", t.ID, err)
	}
	*t = *moved
	e.tell(t, Step{Detail: f.Why})
	return nil
}
