package nexus

import (
	"context"
	"time"

	"github.com/sop-host/sop/host/internal/task"
)

// Runs have tasks worked on here and now.
type Runs interface {
	// Start takes a task on, or that of a gap, which is made where there is none.
	// It returns the task when somebody is at it.
	Start(ctx context.Context, ref, sandbox, by string) (*task.Task, error)
	// CheckStart says what Start would take on.
	CheckStart(ctx context.Context, ref, sandbox, by string) (*task.Task, error)
	// Try makes a run and leaves the task as it is.
	Try(ctx context.Context, ref, sandbox, by string) (*Trial, error)
	// Watch sends what happens to a task until nothing goes on with it by itself.
	Watch(ctx context.Context, id string, send func(RunStep) error) error
}

// Trial is what a run would change.
type Trial struct {
	Outcome, Explanation, Diff string
	Evidence                   []byte // JSON
	Rejected                   []string
}

// RunStep is something that happened to a task.
type RunStep struct {
	At                           time.Time
	State, Phase, Detail, Remedy string
	Patch                        string
	Settled                      bool // nothing goes on by itself
}
