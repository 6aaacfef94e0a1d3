package flow

import (
	"time"

	"github.com/sop-host/sop/host/internal/task"
)

// A Step is something that happened to a task on its way, for those who watch.
type Step struct {
	At        time.Time
	Task      string
	Title     string
	Workspace string
	State     task.State
	// Phase is what is being done within the state, such as "editing"; empty for
	// the state itself.
	Phase  string
	Detail string
	Patch  string
	Remedy string
}

// tell hands a step to the watchers.
func (e *Engine) tell(t *task.Task, s Step) {
	s.At, s.Task, s.Title, s.Workspace = e.opt.Now(), t.ID, t.Title, t.Workspace
	if s.State == "" {
		s.State = t.State
	}
	if s.Patch == "" {
		s.Patch = t.Patch
	}
	if e.opt.OnStep != nil {
		e.opt.OnStep(s)
	}
	e.watch.Lock()
	defer e.watch.Unlock()
	for w := range e.watchers {
		if w.task == t.ID {
			w.send(s)
		}
	}
}

// progress is told what goes on within the state of a task.
func (e *Engine) progress(t *task.Task) func(phase, message string) {
	return func(phase, message string) { e.tell(t, Step{Phase: phase, Detail: message}) }
}

// watcher follows one task. What it cannot take in time is left out, and
// counted.
type watcher struct {
	task    string
	steps   chan Step
	dropped int
}

// watcherBuffer is how many steps a watcher may be behind.
const watcherBuffer = 256

// send never blocks; the engine's lock is held.
func (w *watcher) send(s Step) {
	select {
	case w.steps <- s:
	default:
		w.dropped++
	}
}

// Watch returns the steps of a task from now on, until stop is called. A
// watcher that is slow misses some.
func (e *Engine) Watch(taskID string) (steps <-chan Step, stop func()) {
	w := &watcher{task: taskID, steps: make(chan Step, watcherBuffer)}
	e.watch.Lock()
	defer e.watch.Unlock()
	e.watchers[w] = struct{}{}
	return w.steps, func() {
		e.watch.Lock()
		defer e.watch.Unlock()
		delete(e.watchers, w)
	}
}
