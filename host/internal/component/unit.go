package component

import (
	"context"
	"sync"
	"time"

	"github.com/sop-host/sop/host/internal/process"
	"github.com/sop-host/sop/sdk"
)

// unit is one configured component through all its instances. Its goroutine
// (run) alone starts, stops and ends instances; everybody else says what is
// wanted and wakes it.
type unit struct {
	s    *Supervisor
	name string
	log  *output
	// after is closed when an earlier unit of this name has ended; nil for none.
	after <-chan struct{}

	mu       sync.Mutex // guards what follows
	spec     *Spec
	state    State
	detail   string
	since    time.Time
	instance *instance // nil when there is no process
	number   int       // of the last instance

	removed    bool           // it is to end for good
	held       bool           // an operator has stopped it
	halted     bool           // an emergency stop has
	users      int            // who needs it, and running dependants
	needs      map[string]int // who needs it, by name
	idleAt     time.Time      // on demand: until when it stays without users
	renew      bool           // its process is to be replaced
	found      *found         // what an earlier host left, to be taken back first; nil for nothing
	endStart   context.CancelFunc
	recovering bool // the next start is one again after a failure
	restarts   int
	policy     process.Restarts
	fruitless  int       // starts in a row that did not make it ready
	hindered   int       // starts in a row that failed for the host
	retryAt    time.Time // when it is started next; zero: as soon as it is wanted
	lastErr    *sdk.Error
	lastErrAt  time.Time
	lastProbe  Probe

	kick chan struct{} // tells run to look again
	done chan struct{} // closed when run has ended
}

func newUnit(s *Supervisor, spec *Spec) (*unit, error) {
	log, err := newOutput(s.opt.LogDir, spec.Name)
	if err != nil {
		return nil, err
	}
	u := &unit{
		s: s, name: spec.Name, log: log, spec: spec, since: time.Now(), policy: process.Restarts{Policy: spec.Backoff},
		kick: make(chan struct{}, 1), done: make(chan struct{}), state: StateQueued, needs: make(map[string]int),
	}
	if spec.OnDemand {
		u.state = StateIdle
	}
	return u, nil
}

// step is what is to be done next for a unit.
type step int

const (
	stepWait  step = iota // for a kick, the exit, or a time
	stepStart             // a process
	stepStop              // the process
	stepEnd               // for good
)

// run does what is wanted, until the unit is removed.
func (u *unit) run() {
	defer close(u.done)
	defer u.log.close()
	if u.after != nil {
		<-u.after
	}
	for {
		next, at, i := u.decide(time.Now())
		switch next {
		case stepEnd:
			u.set(StateStopped, "")
			return
		case stepStart:
			u.bringUp()
		case stepStop:
			u.takeDown(i)
		case stepWait:
			u.wait(at, i)
		}
	}
}

// decide says what is next, and until when to wait otherwise; zero: for good.
func (u *unit) decide(now time.Time) (step, time.Time, *instance) {
	u.mu.Lock()
	defer u.mu.Unlock()
	wanted, until := u.wantedLocked(now)
	switch {
	case u.instance != nil && (!wanted || u.renew):
		return stepStop, time.Time{}, u.instance
	case u.instance != nil:
		return stepWait, until, u.instance
	case u.removed:
		return stepEnd, time.Time{}, nil
	case !wanted:
		u.toRestLocked(u.restLocked())
		return stepWait, time.Time{}, nil
	case u.retryAt.After(now):
		return stepWait, u.retryAt, nil
	}
	return stepStart, time.Time{}, nil
}

// wantedLocked says whether there is to be a process, and until when that holds
// without anything else happening; zero: for good. u.mu is held.
func (u *unit) wantedLocked(now time.Time) (bool, time.Time) {
	switch {
	case u.removed || u.held || u.halted || u.s.opt.Halted() != nil || u.state == StateFailed || u.state == StateCompleted:
		return false, time.Time{}
	case !u.spec.OnDemand || u.users > 0:
		return true, time.Time{}
	case u.idleAt.After(now):
		return true, u.idleAt
	}
	return false, time.Time{}
}

// wait waits for a kick, the exit of the process or a time.
func (u *unit) wait(until time.Time, i *instance) {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		due = timer.C
	}
	var exited <-chan struct{}
	if i != nil {
		exited = i.exited
	}
	select {
	case <-u.kick:
	case <-due:
	case <-exited:
		u.onExit(i)
	}
}

// change changes what is wanted, ends a start that is not wanted any more, and
// wakes the unit.
func (u *unit) change(f func()) {
	u.mu.Lock()
	f()
	if wanted, _ := u.wantedLocked(time.Now()); u.endStart != nil && (!wanted || u.renew) {
		u.endStart()
	}
	u.mu.Unlock()
	u.wake()
	u.s.changed.Tell()
}

func (u *unit) wake() {
	select {
	case u.kick <- struct{}{}:
	default:
	}
}

// set changes the state and tells who waits for it.
func (u *unit) set(state State, detail string) {
	u.mu.Lock()
	u.setLocked(state, detail)
	u.mu.Unlock()
	u.s.changed.Tell()
}

// step takes a step of an instance's life: change notes it, under u.mu. Who finds
// the unit changed finds the step told, so that what follows from it is told after
// it.
func (u *unit) step(e Event, change func()) {
	e.Name = u.name
	u.mu.Lock()
	change()
	u.s.emit(e)
	u.mu.Unlock()
	u.s.changed.Tell()
}

// enter takes the step that begins a state.
func (u *unit) enter(state State, e Event) {
	u.step(e, func() { u.setLocked(state, "") })
}

func (u *unit) setLocked(state State, detail string) {
	if u.state != state {
		u.since = time.Now()
	}
	u.state, u.detail = state, detail
}

// rest is the state of a unit without a process that is not on its way to one.
// u.mu is held.
func (u *unit) restLocked() State {
	switch {
	case u.state == StateFailed || u.state == StateCompleted:
		return u.state
	case u.held || u.halted || u.removed || u.s.opt.Halted() != nil:
		return StateStopped
	case u.spec.OnDemand:
		return StateIdle
	}
	return StateQueued
}

// toRestLocked gives a unit that had no process the state that it rests in. u.mu is
// held.
func (u *unit) toRestLocked(rest State) {
	if u.state == rest {
		return
	}
	u.setLocked(rest, "")
	if rest == StateStopped {
		u.s.emit(Event{Name: u.name, Instance: u.number, Phase: PhaseStopped})
	}
	u.s.changed.Tell()
}

// settled says whether its first start has come to something.
func (u *unit) settled() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch u.state {
	case StateStarting, StateWaiting, StateQueued, StateStopping:
		return u.lastErr != nil || u.blockedByFailureLocked() != ""
	case StateIdle, StateReady, StateUnready, StateBlocked, StateBackoff, StateStopped, StateCompleted, StateFailed:
	}
	return true
}
