package flow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk"
)

// stoppedError is why the work at a task ended: its holder was asked to stop.
type stoppedError struct{ why string }

func (e *stoppedError) Error() string { return "asked to stop: " + e.why }

// errLost says that the task is somebody else's by now.
var errLost = errors.New("the lease was lost")

// holding runs work while it renews the lease of the task. Work ends, through
// its context, when the holder is asked to stop or the lease is lost; the cause
// says which.
func (e *Engine) holding(ctx context.Context, t *task.Task, work func(ctx context.Context) error) error {
	ctx, end := e.begin(ctx)
	defer end(nil)
	beating, stopBeating := context.WithCancel(ctx)
	done := make(chan struct{})
	hold, every := t.Hold(), max(t.Lease/leaseParts, time.Second) // t is the work's
	go func() {
		defer close(done)
		e.beat(beating, hold, every, end)
	}()
	err := work(ctx)
	stopBeating()
	<-done
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
			return errors.Join(cause, err)
		}
	}
	return err
}

// beat renews the lease until ctx is done.
func (e *Engine) beat(ctx context.Context, hold task.Hold, every time.Duration, end context.CancelCauseFunc) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		beat, err := e.opt.Tasks.Heartbeat(ctx, hold)
		switch {
		case ctx.Err() != nil:
			return
		case lost(err):
			end(errLost)
			return
		case err != nil:
			// The lease may last until the store answers again; if not, it is lost.
			e.opt.Logger.Warn("renew the lease of a task", "task", hold.ID, "error", err)
		case beat.Stop != "":
			end(&stoppedError{beat.Stop})
			return
		}
	}
}

// leaseParts is how many heartbeats there are in a lease.
const leaseParts = 4

// ended says that work ended because it was to end, and not for what it met.
func ended(ctx context.Context, err error) bool {
	var stopped *stoppedError
	return ctx.Err() != nil || errors.Is(err, errLost) || errors.As(err, &stopped) || lost(err)
}

// lost says that err means that the task is no longer held.
func lost(err error) bool {
	return err != nil && sdk.FromError(err).Reason == reasonFence
}

const reasonFence = "TASK_FENCE"

// isReason says whether err carries the reason.
func isReason(err error, reason string) bool {
	return err != nil && sdk.FromError(err).Reason == reason
}

// giveBack ends what an error, or the end of the host, has cut short. It gives
// the task back where nobody else has it.
func (e *Engine) giveBack(ctx context.Context, t *task.Task, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTimeout)
	defer cancel()
	var stopped *stoppedError
	switch {
	case errors.Is(err, errLost) || lost(err):
		e.tell(t, Step{Phase: "lost", Detail: "the lease was lost; somebody else may have the task"})
		return
	case errors.As(err, &stopped):
		e.tell(t, Step{Phase: "stopped", Detail: stopped.why})
	}
	if _, releaseErr := e.opt.Tasks.Postpone(ctx, t.Hold(), plain(err), releaseWait); releaseErr != nil && !lost(releaseErr) {
		e.opt.Logger.Warn("give a task back; its lease ends by itself", "task", t.ID, "error", releaseErr)
	}
}

// releaseWait is how long a task waits that was given back.
const releaseWait = 5 * time.Second

// giveBackTimeout bounds the giving back of a task.
const giveBackTimeout = 5 * time.Second

// plain is an error in one sentence, for people.
func plain(err error) string {
	if err == nil {
		return ""
	}
	return sdk.FromError(err).Message
}

// temporary says whether trying again later may help, without anything being
// changed.
func temporary(err error) bool {
	switch sdk.FromError(err).Code {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}

// runID names one run of a task: a task that is claimed again has another.
func runID(t *task.Task) string { return fmt.Sprintf("%s-%d", t.ID, t.Fence) }
