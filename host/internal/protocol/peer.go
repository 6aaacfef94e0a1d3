package protocol

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// State is how a protocol stands.
type State string

// The states. A peer goes from inactive by way of activating and testing to
// active or passive, and back by way of deactivating.
const (
	StateInactive     State = "inactive"
	StateActivating   State = "activating"
	StateTesting      State = "testing"
	StateActive       State = "active"
	StatePassive      State = "passive"
	StateDeactivating State = "deactivating"
	StateFailed       State = "failed" // it did not come into service; tried again
)

// States returns all states.
func States() []State {
	return []State{StateInactive, StateActivating, StateTesting, StateActive, StatePassive, StateDeactivating, StateFailed}
}

const (
	retryMin      = 100 * time.Millisecond
	retryMax      = 30 * time.Second
	never         = time.Hour // no timer is due
	statusTimeout = 2 * time.Second
	// bringTimeout bounds one attempt to take a peer into service, its self-test
	// not included.
	bringTimeout = 30 * time.Second
)

// peer is one protocol. Its goroutine (run) alone takes it into service and out.
type peer struct {
	service *Service
	name    string
	client  pluginv1.ProtocolClient
	set     atomic.Pointer[Settings]
	gate    *gate
	ctx     context.Context //nolint:containedctx // its life; remove ends it
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	calling sync.Mutex // held while the plugin's mode is being changed

	calls, failures, denied atomic.Int64
	lastCall                atomic.Int64 // Unix nanoseconds

	mu      sync.Mutex
	state   State
	since   time.Time
	want    Mode
	by, why string
	manual  bool // an operator has taken it out: no call brings it back
	err     *sdk.Error
	tries   int                  // failed attempts in a row
	attempt int                  // finished attempts, of any outcome
	gone    bool                 // the process of its plugin has ended since the last attempt began
	passed  map[int]bool         // generations that passed the self-test
	grant   grant                // of the service
	needs   []func()             // releases of components
	changed chan struct{}        // closed and replaced when state or attempt changes
	wake    chan struct{}        // tells run to look again
	inCall  map[*flight]struct{} // calls in flight
}

func newPeer(s *Service, set *Settings) *peer {
	ctx, cancel := context.WithCancel(s.ctx)
	p := &peer{
		service: s, name: set.Name, client: s.opt.Client(set.Name), gate: newGate(set.Name, inactive(set.Name)), ctx: ctx, cancel: cancel,
		state: StateInactive, since: time.Now(), want: Inactive, passed: make(map[int]bool),
		changed: make(chan struct{}), wake: make(chan struct{}, 1), inCall: make(map[*flight]struct{}),
	}
	p.set.Store(set)
	p.gate.bounds(set.InFlight, set.Queue)
	if set.Activation == Always {
		p.want, p.by, p.why = set.Mode, "configuration", "activation is always"
		p.gate.hold()
	}
	return p
}

// apply takes new settings over.
func (p *peer) apply(set *Settings) {
	old := p.set.Swap(set)
	p.gate.bounds(set.InFlight, set.Queue)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !old.SelfTest.same(set.SelfTest) {
		clear(p.passed)
	}
	switch {
	case old.Activation != set.Activation && set.Activation == Always && !p.manual:
		p.wantLocked(set.Mode, "configuration", "activation is always")
	case old.Mode != set.Mode && p.want != Inactive:
		p.wantLocked(set.Mode, "configuration", "the mode has changed")
	}
	p.nudge()
}

func (p *peer) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// wantLocked says how it is to stand. p.mu is held.
func (p *peer) wantLocked(mode Mode, by, why string) {
	if p.want == mode {
		return
	}
	p.want, p.by, p.why, p.tries = mode, by, why, 0
	p.nudge()
}

func (p *peer) wanted() Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.want
}

// setLocked changes the state and wakes who waits for it. p.mu is held.
func (p *peer) setLocked(to State) {
	from := p.state
	p.state, p.since = to, time.Now()
	p.tellLocked()
	if from != to && p.service.opt.OnChange != nil {
		why := p.why
		if to == StateFailed && p.err != nil {
			why = p.err.Message
		}
		p.service.opt.OnChange(Changed{At: p.since, Protocol: p.name, From: from, To: to, By: p.by, Why: why})
	}
}

func (p *peer) tellLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *peer) move(to State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setLocked(to)
}

// run brings the peer to where it is wanted, again and again, until ctx is done.
func (p *peer) run(ctx context.Context) {
	for {
		var due <-chan time.Time
		timer := time.NewTimer(never)
		if wait := p.step(ctx); wait > 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-p.wake:
		case <-due:
		}
		timer.Stop()
	}
}

// step does what is to be done now, and returns when to look again; 0: when told.
func (p *peer) step(ctx context.Context) time.Duration {
	p.mu.Lock()
	want, state := p.want, p.state
	p.mu.Unlock()
	switch {
	case want == Inactive && state != StateInactive:
		p.takeOut(ctx)
		return 0
	case want != Inactive && state != stateOf(want):
		return p.bringIn(ctx, want)
	case want != Inactive:
		if err := p.lacks(); err != nil {
			return p.fail(ctx, err)
		}
		return sooner(p.idle(), p.renewed(ctx, want))
	}
	return 0
}

func stateOf(m Mode) State {
	switch m {
	case Active:
		return StateActive
	case Passive:
		return StatePassive
	}
	return StateInactive
}
