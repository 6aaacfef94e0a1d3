// Package doctor runs examinations side by side, each within its own time, and
// keeps what they found. What is examined it does not know: whoever calls it
// brings the checks.
//
// It imports the SDK's errors and nothing else of ours; startup brings the
// checks, cli prints the report.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sop-host/sop/sdk"
)

// State is how something was found to be.
type State string

// The states, best first.
const (
	OK      State = "ok"
	Warning State = "warning" // it works, and somebody should look at it
	Failed  State = "failed"
)

// worse says whether s is worse than o.
func (s State) worse(o State) bool {
	rank := map[State]int{OK: 0, Warning: 1, Failed: 2}
	return rank[s] > rank[o]
}

// Finding is one thing that an examination says.
type Finding struct {
	State State `json:"state"`
	// Message is one sentence; of what is not ok, the cause.
	Message string `json:"message"`
	// Remedy says what to do; empty where there is nothing to do.
	Remedy string `json:"remedy,omitempty"`
}

// Fine makes the finding that all is well.
func Fine(format string, args ...any) Finding {
	return Finding{State: OK, Message: fmt.Sprintf(format, args...)}
}

// Warn makes the finding that somebody should look at something.
func Warn(remedy, format string, args ...any) Finding {
	return Finding{State: Warning, Message: fmt.Sprintf(format, args...), Remedy: remedy}
}

// Fail makes the finding that something is wrong.
func Fail(remedy, format string, args ...any) Finding {
	return Finding{State: Failed, Message: fmt.Sprintf(format, args...), Remedy: remedy}
}

// FromError makes the finding of an error, with its own remedy, or with
// otherwise where it has none.
func FromError(err error, otherwise string) Finding {
	e := sdk.FromError(err)
	f := Finding{State: Failed, Message: e.Message, Remedy: e.Remedy}
	if f.Remedy == "" {
		f.Remedy = otherwise
	}
	return f
}

// Check is one examination.
type Check struct {
	Name string
	// Limit is how long it may take.
	Limit time.Duration
	// Late is the finding where it takes longer.
	Late Finding
	// Examine returns what was found, in the order in which it is told; of an
	// error it makes a finding itself. It runs on a goroutine of its own, and may
	// be left behind where it does not heed its context: a file system that hangs
	// lets nobody go.
	Examine func(ctx context.Context) []Finding
}

// Result is what a check has found.
type Result struct {
	Check    string        `json:"check"`
	State    State         `json:"state"`
	Findings []Finding     `json:"findings"`
	Took     time.Duration `json:"took_ns"`
}

// Report is what all checks have found, in their order.
type Report struct {
	State  State    `json:"state"` // the worst
	Checks []Result `json:"checks"`
}

// Count says how many findings are in a state.
func (r *Report) Count(s State) (n int) {
	for _, c := range r.Checks {
		for _, f := range c.Findings {
			if f.State == s {
				n++
			}
		}
	}
	return n
}

// Run examines everything, and returns when the last check has ended or is late.
func Run(ctx context.Context, checks []Check) *Report {
	report := &Report{State: OK, Checks: make([]Result, len(checks))}
	var all sync.WaitGroup
	for i := range checks {
		all.Go(func() { report.Checks[i] = checks[i].run(ctx) })
	}
	all.Wait()
	for _, c := range report.Checks {
		if c.State.worse(report.State) {
			report.State = c.State
		}
	}
	return report
}

// settle is how long a check that is late may take to heed its context.
const settle = 500 * time.Millisecond

func (c *Check) run(ctx context.Context) Result {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	done := make(chan []Finding, 1)
	go func() { done <- c.Examine(limited) }()
	out := Result{Check: c.Name, State: OK}
	select {
	case out.Findings = <-done:
	case <-limited.Done():
		out.Findings = c.late(ctx, done)
	}
	out.Took = time.Since(begin)
	for _, f := range out.Findings {
		if f.State.worse(out.State) {
			out.State = f.State
		}
	}
	return out
}

// late waits a little for a check whose time is up. What it has found by then
// counts only if it had nothing to do with the time.
func (c *Check) late(ctx context.Context, done <-chan []Finding) []Finding {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	late := c.Late
	if late.Message == "" {
		late = Fail("see what holds it up, and examine again", "no answer within %s", c.Limit)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		late = Warn("", "interrupted")
	}
	return []Finding{late}
}
