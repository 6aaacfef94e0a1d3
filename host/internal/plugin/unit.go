package plugin

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/sdk"
)

// State is how a configured plugin stands.
type State string

// States of a unit.
const (
	StateStarting State = "starting" // its first generation is on the way
	StateReady    State = "ready"
	StateBackoff  State = "backoff" // it failed and will be started again
	StateFailed   State = "failed"  // it will not be started again by itself
	StateStopped  State = "stopped"
)

// States returns all states.
func States() []State {
	return []State{StateStarting, StateReady, StateBackoff, StateFailed, StateStopped}
}

// unit is one configured plugin through all its generations. Its goroutine
// (run) restarts what fails; install and remove may be called from any.
type unit struct {
	pool    *Pool
	id      string
	current atomic.Pointer[generation] // nil when none serves
	spec    atomic.Pointer[Spec]
	meter   meter

	mu        sync.Mutex // guards what follows
	state     State
	since     time.Time
	lastErr   *sdk.Error // of the last failure; nil when there was none
	lastErrAt time.Time
	restarts  int
	epoch     int // counts installs and removals: an attempt from before one is void
	policy    process.Restarts
	retryAt   time.Time          // zero: no attempt is due
	cancel    context.CancelFunc // ends the attempt under way; nil when there is none
	changed   chan struct{}      // closed and replaced when state changes
	described description

	kick chan struct{} // tells run to look again
	quit chan struct{}
	done chan struct{}
}

// description is what the last described generation said of itself.
type description struct {
	version      string
	summary      string
	number       int
	capabilities []string
}

func newUnit(p *Pool, spec *Spec) *unit {
	u := &unit{
		pool: p, id: spec.ID(), state: StateStarting, since: p.now(),
		policy:  process.Restarts{Policy: spec.Restart},
		changed: make(chan struct{}), kick: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	u.spec.Store(spec)
	return u
}

// run restarts the unit when its generation exits or a retry is due, until
// removed.
func (u *unit) run() {
	defer close(u.done)
	for {
		g := u.current.Load()
		var exited <-chan struct{}
		if g != nil {
			exited = g.runner.exited
		}
		retry, stopTimer := u.retryTimer()
		select {
		case <-u.quit:
			stopTimer()
			return
		case <-u.kick:
		case <-exited:
			u.onExit(g)
		case <-retry:
			u.attempt()
		}
		stopTimer()
	}
}

// callTimeout implements lane.
func (u *unit) callTimeout() time.Duration { return u.spec.Load().CallTimeout }

// metered implements lane.
func (u *unit) metered() *meter { return &u.meter }

// retryTimer fires when an attempt is due.
func (u *unit) retryTimer() (<-chan time.Time, func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.retryAt.IsZero() {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(u.retryAt))
	return t.C, func() { t.Stop() }
}

// onExit notes that the serving generation has ended by itself and arranges for
// the next.
func (u *unit) onExit(g *generation) {
	u.mu.Lock()
	if u.current.Load() != g {
		u.mu.Unlock()
		return
	}
	u.current.Store(nil)
	failure := g.runner.ranOutOfMemory()
	if failure == nil {
		failure = &sdk.Error{
			Code: codes.Unavailable, Reason: ReasonCrashed, Retryable: true,
			Message: "plugin " + u.id + " exited by itself",
			Remedy:  g.runner.crashRemedy(),
		}
	}
	u.failLocked(failure)
	epoch := u.epoch
	u.mu.Unlock()
	u.pool.emit(Event{ID: u.id, Generation: g.number, Phase: "exited", Err: u.Err()})
	u.pool.background.Go(func() {
		cause := g.runner.exitCause()
		u.mu.Lock()
		if u.epoch == epoch && u.lastErr != nil && u.lastErr.Reason == ReasonCrashed {
			e := *u.lastErr
			e.Message = "plugin " + u.id + " ended by itself: " + cause
			u.lastErr = &e
		}
		u.mu.Unlock()
		u.pool.logger.Error("plugin ended by itself", "plugin", u.id, "generation", g.number, "cause", cause)
		g.retire(0)
	})
}

// failLocked records a failure and decides what comes next. u.mu is held.
func (u *unit) failLocked(err *sdk.Error) {
	now := u.pool.now()
	u.lastErr, u.lastErrAt, u.retryAt = err, now, time.Time{}
	if halted := u.pool.halted(); halted != nil {
		u.lastErr = halted
		u.setLocked(StateFailed)
		return
	}
	if permanent(err) {
		u.setLocked(StateFailed)
		return
	}
	wait, open := u.policy.Fail(now)
	if open {
		e := *err
		e.Metadata = map[string]string{"last_reason": err.Reason}
		e.Reason = ReasonCrashLoop
		e.Message = err.Message + " (failed too often in a short time; not started again)"
		e.Remedy = "mend the plugin or its configuration, then `sop plugin restart " + u.id + "`"
		if err.Reason == ReasonOutOfMemory {
			e.Remedy = err.Remedy + "; then `sop plugin restart " + u.id + "`"
		}
		u.lastErr = &e
		u.setLocked(StateFailed)
		return
	}
	u.retryAt = now.Add(wait)
	u.setLocked(StateBackoff)
}

// setLocked changes the state and wakes who waits for it. u.mu is held.
func (u *unit) setLocked(s State) {
	u.state, u.since = s, u.pool.now()
	close(u.changed)
	u.changed = make(chan struct{})
}

// attempt starts a generation and puts it in service.
func (u *unit) attempt() {
	ctx, cancel := context.WithCancel(u.pool.ctx)
	defer cancel()
	u.mu.Lock()
	if u.state == StateStopped {
		u.mu.Unlock()
		return
	}
	epoch, spec := u.epoch, u.spec.Load()
	u.retryAt, u.cancel = time.Time{}, cancel
	first := u.state == StateStarting
	u.mu.Unlock()

	g, err := u.pool.startGeneration(ctx, spec, "")

	u.mu.Lock()
	u.cancel = nil
	if u.epoch != epoch {
		u.mu.Unlock()
		if g != nil {
			g.stop(spec.StopGrace)
		}
		return
	}
	defer u.mu.Unlock()
	if err != nil {
		u.failLocked(sdk.FromError(err))
		return
	}
	if !first {
		u.restarts++
	}
	u.serveLocked(g)
}

// serveLocked puts g in service. u.mu is held.
func (u *unit) serveLocked(g *generation) {
	u.current.Store(g)
	u.described = description{version: g.described.GetVersion(), summary: g.described.GetSummary(), capabilities: g.described.GetCapabilities(), number: g.number}
	u.retryAt = time.Time{}
	u.setLocked(StateReady)
	u.pool.background.Go(func() { u.watchHealth(g) })
}

// install puts a prepared generation of spec in service in place of whatever
// there is, and returns what it replaced, for the caller to retire; nil if
// there was nothing.
func (u *unit) install(g *generation, spec *Spec) *generation {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.voidLocked()
	old := u.current.Load()
	u.spec.Store(spec)
	u.policy = process.Restarts{Policy: spec.Restart}
	u.lastErr = nil
	u.serveLocked(g)
	u.wake()
	return old
}

// remove takes the unit out of service and ends its goroutine. It returns the
// generation to retire; nil if there is none.
func (u *unit) remove() *generation {
	u.mu.Lock()
	u.voidLocked()
	old := u.current.Swap(nil)
	u.retryAt = time.Time{}
	u.setLocked(StateStopped)
	u.mu.Unlock()
	close(u.quit)
	<-u.done
	return old
}

// voidLocked makes an attempt under way come to nothing. u.mu is held.
func (u *unit) voidLocked() {
	u.epoch++
	if u.cancel != nil {
		u.cancel()
	}
}

// retryNow makes a unit that is not in service start at once, with a clean
// record. It says whether it did.
func (u *unit) retryNow() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != StateFailed && u.state != StateBackoff {
		return false
	}
	u.policy.Reset()
	u.retryAt = u.pool.now()
	u.setLocked(StateStarting)
	u.wake()
	return true
}

func (u *unit) wake() {
	select {
	case u.kick <- struct{}{}:
	default:
	}
}

// settled waits until the unit is ready, failed or in backoff, or ctx is done.
func (u *unit) settled(ctx context.Context) State {
	for {
		u.mu.Lock()
		state, changed := u.state, u.changed
		u.mu.Unlock()
		if state != StateStarting {
			return state
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return state
		}
	}
}

// Err returns the last failure, or nil.
func (u *unit) Err() *sdk.Error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.lastErr
}

// acquire returns the generation in service, waiting for one that is on its way
// until ctx is done. The caller releases it.
func (u *unit) acquire(ctx context.Context) (*generation, error) {
	for {
		if g := u.current.Load(); g != nil && !isClosed(g.runner.exited) && g.acquire() {
			return g, nil
		}
		u.mu.Lock()
		state, changed, lastErr, retryAt, g := u.state, u.changed, u.lastErr, u.retryAt, u.current.Load()
		u.mu.Unlock()
		if g != nil && !isClosed(g.runner.exited) {
			continue // installed since
		}
		if state == StateFailed || state == StateStopped {
			return nil, unavailable(u.id, state, lastErr, retryAt)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, unavailable(u.id, state, lastErr, retryAt)
		}
	}
}

// unavailable says that a plugin is not in service, why, and when the next
// attempt is made to start it, if that is known.
func unavailable(id string, state State, cause *sdk.Error, retryAt time.Time) *sdk.Error {
	e := &sdk.Error{
		Code: codes.Unavailable, Reason: ReasonUnavailable, Retryable: state != StateFailed,
		Message: "plugin " + id + " is not in service (" + string(state) + ")",
		Remedy:  "see `sop plugin show " + id + "`",
	}
	if cause != nil {
		e.Message += ": " + cause.Message
		e.Cause = cause
		if cause.Remedy != "" {
			e.Remedy = cause.Remedy
		}
	}
	if wait := time.Until(retryAt); e.Retryable && wait > 0 {
		return e.RetryIn(wait)
	}
	return e
}

// healthFailures in a row end a generation.
const healthFailures = 3

// watchHealth asks a generation for its health until it exits or is replaced,
// and kills it when it has failed to answer three times in a row: a process that is stopped or
// hangs does not exit by itself.
func (u *unit) watchHealth(g *generation) {
	ticker := time.NewTicker(u.pool.healthInterval)
	defer ticker.Stop()
	failures := 0
	for {
		select {
		case <-g.runner.exited:
			return
		case <-g.stopped:
			return
		case <-u.pool.ctx.Done():
			return
		case <-ticker.C:
		}
		if u.current.Load() != g {
			return
		}
		ctx, cancel := context.WithTimeout(u.pool.ctx, u.pool.healthTimeout)
		serving, err := g.healthy(ctx)
		cancel()
		if serving && err == nil {
			failures = 0
			continue
		}
		if failures++; failures < healthFailures {
			continue
		}
		u.giveUp(g, err)
		return
	}
}

// giveUp ends a generation that does not answer, or says that it cannot go on, and
// arranges for the next. cause is what came of the last check; nil: it said that it
// does not serve.
func (u *unit) giveUp(g *generation, cause error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.current.Load() != g {
		return
	}
	u.current.Store(nil)
	failure := &sdk.Error{
		Code: codes.Unavailable, Reason: ReasonUnhealthy, Retryable: true,
		Message: "plugin " + u.id + " stopped answering health checks and was killed",
		Remedy:  "see the plugin's log; it may hang, or have been stopped by a signal",
	}
	if said := sdk.FromError(cause); said != nil && said.Reason != "" {
		failure.Message = "plugin " + u.id + " cannot go on and was killed: " + clip(printable(said.Message))
		failure.Remedy = "see the plugin's log; if it goes on, report it to the plugin's author"
	}
	u.failLocked(failure)
	u.pool.emit(Event{ID: u.id, Generation: g.number, Phase: "unhealthy", Err: u.lastErr})
	u.wake()
	u.pool.background.Go(func() {
		g.stop(0) // before retire: calls in flight end with the process
		g.retire(0)
	})
}
