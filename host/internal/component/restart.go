package component

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/sdk"
)

// onExit puts away an instance that has ended by itself and decides what comes
// next.
func (u *unit) onExit(i *instance) {
	exit := u.putAway(i, leftWait)
	failed, note := false, ""
	if i.leftOver {
		note = "what it left running was ended: it must stay in the foreground"
		u.s.logger.Warn("component ended and left processes, which were ended; a program must stay in the foreground", "component", u.name, "instance", i.number)
	}
	u.step(Event{Instance: i.number, Phase: PhaseExited, Detail: "it " + exit.String()}, func() {
		u.instance = nil
		policy, clean := u.spec.RestartPolicy, exit.Known && exit.Code == 0 && exit.Signal == 0
		switch wanted, _ := u.wantedLocked(time.Now()); {
		case !wanted:
			u.settleLocked()
		case clean && policy != RestartAlways:
			u.completeLocked(nil)
			u.detail = note
		case policy == RestartNever:
			u.completeLocked(u.exitFailure(i, exit, ""))
		default:
			failed = true
		}
	})
	i.release()
	if failed {
		u.fail(i.number, u.exitFailure(i, exit, ""))
	}
}

// putAway ends what is left of an instance that has exited.
func (u *unit) putAway(i *instance, grace time.Duration) process.Exit {
	exit, err := i.finish(grace)
	if err != nil {
		u.s.logger.Warn("put away what a component has left", "component", u.name, "instance", i.number, "error", err)
	}
	return exit
}

// settleLocked gives a unit without a process the state that it is to have. u.mu
// is held.
func (u *unit) settleLocked() {
	u.instance = nil
	u.setLocked(u.restLocked(), "")
}

// completeLocked notes that it has ended and is not started again: as it may, or
// with a failure after which it is not to be. u.mu is held.
func (u *unit) completeLocked(err *sdk.Error) {
	u.lastErr = err
	if err != nil {
		u.lastErrAt = time.Now()
	}
	if u.spec.OnDemand && err == nil {
		u.idleAt = time.Time{}
		u.setLocked(StateIdle, "")
	} else {
		u.setLocked(StateCompleted, "")
	}
}

// startFailed decides what comes after a start that came to nothing, unless it
// was given up.
func (u *unit) startFailed(ctx context.Context, number int, err error) {
	u.mu.Lock()
	wanted, _ := u.wantedLocked(time.Now())
	givenUp := !wanted || u.renew || ctx.Err() != nil
	u.mu.Unlock()
	if givenUp {
		u.step(Event{Instance: number, Phase: PhaseStopped}, u.settleLocked)
		return
	}
	e := failure(err)
	if e.Reason != ReasonHost {
		u.mu.Lock()
		u.fruitless++
		u.mu.Unlock()
	}
	u.fail(number, e)
}

// fail records a failure and decides when the next start is.
func (u *unit) fail(number int, err *sdk.Error) {
	now := time.Now()
	u.mu.Lock()
	u.instance, u.endStart = nil, nil // who starts it from now on begins anew
	u.lastErr, u.lastErrAt, u.recovering = err, now, true
	wait, open := u.againLocked(now, err)
	if open {
		u.setLocked(StateFailed, u.lastErr.Message)
	} else {
		u.retryAt = now.Add(wait)
		u.setLocked(StateBackoff, err.Message)
	}
	told := u.lastErr
	u.s.emit(Event{Name: u.name, Instance: number, Phase: PhaseFailed, Err: told})
	u.mu.Unlock()
	u.s.changed.Tell()
	u.s.logger.Error("component failed", "component", u.name, "instance", number, "again", !open, "error", told.Message)
}

// againLocked says how long to wait before the next start, or open when there is to
// be none: where it failed too often in a short time, or to become ready however
// long that took. What the host itself cannot do is no failure of the component, and
// is tried until it can. u.mu is held.
func (u *unit) againLocked(now time.Time, err *sdk.Error) (wait time.Duration, open bool) {
	if err.Reason == ReasonHost {
		wait = min(u.spec.Backoff.BackoffMin<<min(u.hindered, 16), u.spec.Backoff.BackoffMax)
		u.hindered++
		return wait, false
	}
	u.hindered = 0
	if permanent(err) || u.spec.RestartPolicy == RestartNever {
		return 0, true
	}
	if wait, open = u.policy.Fail(now); open {
		u.lastErr = crashLoop(u.name, err, "failed too often in a short time")
	} else if open = u.fruitless >= u.spec.Backoff.BreakerFailures; open {
		u.lastErr = crashLoop(u.name, err, fmt.Sprintf("%d starts in a row did not make it ready", u.fruitless))
	}
	return wait, open
}

// crashLoop is a failure after which the component is not started again by itself.
func crashLoop(name string, err *sdk.Error, why string) *sdk.Error {
	e := *err
	e.Metadata = map[string]string{"last_reason": err.Reason}
	e.Reason = ReasonCrashLoop
	e.Message = err.Message + " (" + why + "; not started again)"
	e.Remedy = err.Remedy + "; mend the component or its configuration, then `sop component start " + name + "`"
	return &e
}

// end stops an instance whose start has failed with cause, and says what the
// failure was.
func (u *unit) end(i *instance, grace time.Duration, cause error) error {
	probe := func() Probe { u.mu.Lock(); defer u.mu.Unlock(); return u.lastProbe }()
	if !i.ended() {
		u.stopProcess(i, grace)
	}
	exit := u.putAway(i, leftWait)
	switch {
	case errors.Is(cause, errEnded):
		return u.exitFailure(i, exit, " before it was ready")
	case errors.Is(cause, context.DeadlineExceeded):
		message := fmt.Sprintf("component %s was not ready within %v", u.name, i.spec.StartTimeout)
		if i.spec.Readiness.polled() && probe.Error != "" {
			message += "; its probe said: " + probe.Error
		} else if words := u.log.lastWords(); words != "" {
			message += "; it last said: " + words
		}
		return &sdk.Error{
			Code: codes.Unavailable, Reason: ReasonStartTimeout, Retryable: true, Message: message, Cause: cause,
			Remedy: "see `sop component logs " + u.name + "`; raise start_timeout if it needs longer, or correct its readiness block",
		}
	}
	return cause
}
