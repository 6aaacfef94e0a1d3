package protocol

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

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
	tries   int // failed attempts in a row
	attempt int // finished attempts, of any outcome
	serving bool
	passed  map[int]bool    // generations that passed the self-test
	grant   grant           // of the service
	needs   []func()        // releases of components
	changed chan struct{}   // closed and replaced when state or attempt changes
	wake    chan struct{}   // tells run to look again
	inCall  map[*flight]any // calls in flight
}

// grant is a token that was given out.
type grant struct {
	secret string
	end    func()
}

// flight is a call on its way.
type flight struct{ cancel context.CancelCauseFunc }

func newPeer(s *Service, set *Settings) *peer {
	ctx, cancel := context.WithCancel(s.ctx)
	p := &peer{
		service: s, name: set.Name, client: s.opt.Client(set.Name), gate: newGate(set.Name, inactive(set.Name)), ctx: ctx, cancel: cancel,
		state: StateInactive, since: time.Now(), want: Inactive, passed: make(map[int]bool),
		changed: make(chan struct{}), wake: make(chan struct{}, 1), inCall: make(map[*flight]any),
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
		return p.idle()
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

// idle takes a peer out that nobody has called for a while, and returns when to
// look again.
func (p *peer) idle() time.Duration {
	set := p.set.Load()
	if set.Activation != OnDemand || set.IdleStop <= 0 {
		return 0
	}
	in, waiting := p.gate.counts()
	p.mu.Lock()
	last := max(p.lastCall.Load(), p.since.UnixNano())
	p.mu.Unlock()
	left := set.IdleStop - time.Since(time.Unix(0, last))
	switch {
	case in > 0 || waiting > 0 || len(p.service.users(p.name)) > 0:
		return set.IdleStop
	case left > 0:
		return left
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wantLocked(Inactive, "host", fmt.Sprintf("nobody called it for %s", set.IdleStop))
	return 0
}

// activate asks for a mode and waits for what comes of it.
func (p *peer) activate(ctx context.Context, mode Mode, by string) error {
	if mode == "" {
		mode = p.set.Load().Mode
	}
	p.mu.Lock()
	p.manual = false
	if p.want == Inactive || p.state == StateFailed || p.want != mode {
		p.gate.hold()
	}
	p.want, p.by, p.why, p.tries = mode, by, "activated", 0
	p.nudge()
	p.mu.Unlock()
	return p.settled(ctx, mode)
}

// settled waits until the peer is in a mode, or an attempt has failed.
func (p *peer) settled(ctx context.Context, mode Mode) error {
	p.mu.Lock()
	first := p.attempt
	for {
		state, changed, attempt, err := p.state, p.changed, p.attempt, p.err
		p.mu.Unlock()
		switch {
		case state == stateOf(mode):
			return nil
		case attempt > first && mode != Inactive && err != nil:
			return err
		case p.ctx.Err() != nil:
			return stopped()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ctx.Done():
		}
		p.mu.Lock()
	}
}

// deactivate takes the peer out and waits for it.
func (p *peer) deactivate(ctx context.Context, by, why string) error {
	p.mu.Lock()
	p.manual = true
	if why == "" {
		why = "deactivated"
	}
	p.wantLocked(Inactive, by, why)
	p.mu.Unlock()
	return p.settled(ctx, Inactive)
}

// need takes a peer into service that is so on demand, and returns at once.
// Others are left as they are.
func (p *peer) need() {
	set := p.set.Load()
	if set.Activation != OnDemand {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.want != Inactive || p.manual {
		return
	}
	p.gate.hold()
	p.wantLocked(set.Mode, "host", "a call needs it")
}

// bringIn makes one attempt to take the peer into service. It returns when to
// try again.
func (p *peer) bringIn(ctx context.Context, mode Mode) time.Duration {
	p.gate.hold()
	p.move(StateActivating)
	err := p.enter(ctx, mode)
	if err == nil {
		p.healthy(ctx)
		p.arrived(mode)
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempt++
	p.err = sdk.FromError(err)
	wait := min(retryMin<<min(p.tries, 16), retryMax)
	p.tries++
	p.setLocked(StateFailed)
	p.service.opt.Logger.Warn("protocol did not come into service", "protocol", p.name, "error", err, "again_in", wait)
	if !p.err.Retryable && p.want != Inactive {
		p.gate.lock(unready(p.name, p.err))
	}
	return wait
}

// arrived notes that the peer is in a mode, and lets calls in.
func (p *peer) arrived(mode Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempt++
	p.err, p.tries, p.serving = nil, 0, true
	p.setLocked(stateOf(mode))
	if p.want == mode {
		p.gate.admit()
	}
	p.nudge() // to see when it is idle, or that it is wanted otherwise by now
}

// enter takes the peer into service: what it depends on first, then itself,
// tested.
func (p *peer) enter(ctx context.Context, mode Mode) error {
	if err := p.dependencies(ctx, p.set.Load()); err != nil {
		return err
	}
	p.calling.Lock()
	defer p.calling.Unlock()
	waiting, cancel := context.WithTimeout(ctx, bringTimeout)
	defer cancel()
	if _, err := p.client.Status(waiting, &pluginv1.StatusRequest{}); err != nil { // it waits for a generation in service
		e := *sdk.FromError(err)
		e.Retryable = e.Retryable || e.Code == codes.NotFound // the plugin is still to be started
		return &e
	}
	return p.activateOn(ctx, p.client, p.service.opt.Generation(p.name), mode)
}

// dependencies waits for what the peer needs.
func (p *peer) dependencies(ctx context.Context, set *Settings) error {
	ctx, cancel := context.WithTimeout(ctx, bringTimeout)
	defer cancel()
	for _, name := range set.DependsOn {
		other, err := p.service.peer(name)
		if err != nil {
			return err
		}
		other.need()
		if err := other.inService(ctx); err != nil {
			e := sdk.Errorf(sdk.FromError(err).Code, ReasonUnready, "protocol %s needs %s: %w", p.name, name, err).
				WithRemedy("%s", sdk.FromError(err).Remedy)
			e.Retryable = true
			return e
		}
	}
	if p.service.opt.Components == nil {
		return nil
	}
	p.release()
	for _, name := range set.Components {
		release, err := p.service.opt.Components.Need(ctx, name)
		if err != nil {
			p.release()
			e := sdk.Errorf(sdk.FromError(err).Code, ReasonUnready, "protocol %s needs the component %s: %w", p.name, name, err).
				WithRemedy("%s", sdk.FromError(err).Remedy)
			e.Retryable = true
			return e
		}
		p.mu.Lock()
		p.needs = append(p.needs, release)
		p.mu.Unlock()
	}
	return nil
}

// release lets go of the components that it needs.
func (p *peer) release() {
	p.mu.Lock()
	needs := p.needs
	p.needs = nil
	p.mu.Unlock()
	for _, release := range needs {
		release()
	}
}

// inService waits until the peer serves, or it is known that it will not.
func (p *peer) inService(ctx context.Context) error {
	p.mu.Lock()
	for {
		state, want, changed, err := p.state, p.want, p.changed, p.err
		p.mu.Unlock()
		switch {
		case state == StateActive || state == StatePassive:
			return nil
		case want == Inactive:
			return inactive(p.name)
		case state == StateFailed && err != nil:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ctx.Done():
			return stopped()
		}
		p.mu.Lock()
	}
}

// activateOn takes one generation into a mode. p.calling is held, or nobody else
// knows the generation yet.
func (p *peer) activateOn(ctx context.Context, client pluginv1.ProtocolClient, generation int, mode Mode) error {
	if err := p.test(ctx, client, generation); err != nil {
		return err
	}
	secret, err := p.serviceGrant(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bringTimeout)
	defer cancel()
	return switchMode(ctx, p.name, client, secret, mode)
}

// switchMode has a plugin change its mode.
func switchMode(ctx context.Context, name string, client pluginv1.ProtocolClient, secret string, mode Mode) error {
	resp, err := client.Activate(ctx, &pluginv1.ActivateRequest{Token: secret, Mode: modeNumbers[mode]})
	if err != nil {
		return err
	}
	if got := resp.GetMode(); got != modeNumbers[mode] {
		return wrongMode(name, mode, got)
	}
	return nil
}

var modeNumbers = map[Mode]pluginv1.Mode{
	Inactive: pluginv1.Mode_MODE_INACTIVE, Active: pluginv1.Mode_MODE_ACTIVE, Passive: pluginv1.Mode_MODE_PASSIVE,
}

// modeName is a mode as people read it.
func modeName(m pluginv1.Mode) string {
	return strings.ToLower(strings.TrimPrefix(m.String(), "MODE_"))
}

// serviceGrant returns the secret of the token that the peer works under, a new
// one where it has none.
func (p *peer) serviceGrant(ctx context.Context) (string, error) {
	p.mu.Lock()
	held := p.grant.secret
	p.mu.Unlock()
	if held != "" {
		return held, nil
	}
	secret, end, err := p.service.opt.Grants.Service(ctx, p.name)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	p.grant = grant{secret, end}
	p.mu.Unlock()
	return secret, nil
}

// admit judges the next generation, before it is put in service.
func (p *peer) admit(ctx context.Context, generation int, client pluginv1.ProtocolClient) error {
	p.mu.Lock()
	state, mode, serving := p.state, p.want, p.serving
	p.mu.Unlock()
	if state != StateActive && state != StatePassive || mode == Inactive {
		p.nudge()
		return nil
	}
	err := p.activateOn(ctx, client, generation, mode)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.serving = true
		return nil
	}
	if serving {
		return err
	}
	p.gate.hold()
	p.err = sdk.FromError(err)
	p.setLocked(StateActivating)
	p.nudge()
	return nil
}

// lost notes that no generation serves; the next is admitted.
func (p *peer) lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serving = false
}

// takeOut takes the peer out of service: nobody is let in any more, those in
// flight have their time, and then are cut off.
func (p *peer) takeOut(ctx context.Context) {
	set := p.set.Load()
	p.move(StateDeactivating)
	if set.Activation == OnDemand && !p.isManual() {
		p.gate.hold() // who comes now is served by what comes next
	} else {
		p.gate.lock(inactive(p.name))
	}
	timer := time.NewTimer(set.Drain)
	defer timer.Stop()
	select {
	case <-p.gate.empty():
	case <-timer.C:
		p.cutOff(deactivated(p.name))
	case <-ctx.Done():
		p.cutOff(deactivated(p.name))
	}
	p.calling.Lock()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTimeout+set.Drain)
	if p.service.opt.Generation(p.name) != 0 {
		if _, err := p.client.Deactivate(ending, &pluginv1.DeactivateRequest{Token: p.secret()}); err != nil {
			p.service.opt.Logger.Warn("protocol did not leave service in good order", "protocol", p.name, "error", err)
		}
	}
	cancel()
	p.calling.Unlock()
	p.endGrant()
	p.release()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempt++
	p.err = nil
	p.setLocked(StateInactive)
	if _, waiting := p.gate.counts(); p.want == Inactive && waiting > 0 && set.Activation == OnDemand && !p.manual {
		p.wantLocked(set.Mode, "host", "a call came while it was taken out")
	}
	if p.want == Inactive {
		p.gate.lock(inactive(p.name))
	}
	p.nudge()
}

func (p *peer) isManual() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.manual
}

func (p *peer) secret() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.grant.secret
}

func (p *peer) endGrant() {
	p.mu.Lock()
	held := p.grant
	p.grant = grant{}
	p.mu.Unlock()
	if held.end != nil {
		held.end()
	}
}

// cutOff ends the calls in flight.
func (p *peer) cutOff(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for f := range p.inCall {
		f.cancel(why)
	}
}

// remove takes the peer out for good.
func (p *peer) remove() {
	p.mu.Lock()
	p.manual = true
	p.wantLocked(Inactive, "configuration", "removed")
	p.mu.Unlock()
	bound, cancel := context.WithTimeout(p.ctx, p.set.Load().Drain+2*statusTimeout)
	defer cancel()
	if err := p.settled(bound, Inactive); err != nil {
		p.service.opt.Logger.Warn("protocol was not taken out of service in time", "protocol", p.name, "error", err)
	}
	p.gate.lock(unknown(p.name))
	p.cancel()
	p.ended.Wait()
	p.endGrant()
	p.release()
}

// problem says what is not as it should be, or nothing.
func (p *peer) problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.want == Inactive || p.state != StateFailed || p.err == nil {
		return ""
	}
	return fmt.Sprintf("protocol %s is not in service: %s", p.name, p.err.Message)
}

// Status is how a protocol stands, at one moment.
type Status struct {
	Name       string
	State      State
	Mode       Mode // in force, as the host has it
	Wanted     Mode
	Since      time.Time
	By, Why    string // who wanted it so
	Activation Activation
	DependsOn  []string
	Error      *sdk.Error // why it is not in service; nil: nothing is wrong
	InFlight   int
	Waiting    int
	Calls      int64
	Failures   int64 // of calls that were let in
	Refused    int64 // calls that were not
	LastCall   time.Time
	Tested     bool // the generation in service has passed the self-test
	HasTest    bool

	// As the plugin has it; absent where it does not answer.
	Detail     string
	Operations []string
	Counters   map[string]int64
}

// status returns how the peer stands; ask: what its plugin says, too.
func (p *peer) status(ctx context.Context, ask bool) *Status {
	set := p.set.Load()
	in, waiting := p.gate.counts()
	generation := p.service.opt.Generation(p.name)
	p.mu.Lock()
	st := &Status{
		Name: p.name, State: p.state, Mode: Inactive, Wanted: p.want, Since: p.since, By: p.by, Why: p.why, Activation: set.Activation,
		DependsOn: slices.Clone(set.DependsOn), Error: p.err, InFlight: in, Waiting: waiting, Calls: p.calls.Load(), Failures: p.failures.Load(),
		Refused: p.denied.Load(), HasTest: set.SelfTest != nil, Tested: set.SelfTest != nil && p.passed[generation],
	}
	p.mu.Unlock()
	switch st.State {
	case StateActive:
		st.Mode = Active
	case StatePassive:
		st.Mode = Passive
	}
	if last := p.lastCall.Load(); last != 0 {
		st.LastCall = time.Unix(0, last)
	}
	if !ask || generation == 0 {
		return st
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	resp, err := p.client.Status(ctx, &pluginv1.StatusRequest{})
	if err != nil {
		st.Detail = "the plugin does not say: " + sdk.FromError(err).Message
		return st
	}
	st.Detail, st.Operations, st.Counters = resp.GetDetail(), resp.GetOperations(), maps.Clone(resp.GetCounters())
	return st
}
