package protocol

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

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
	p.begin()
	if err := p.enter(ctx, mode); err != nil {
		return p.fail(ctx, err)
	}
	p.healthy(ctx)
	p.arrived(mode)
	p.service.lookAgain(func(other *Settings) bool { return slices.Contains(other.DependsOn, p.name) })
	return 0
}

func (p *peer) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = false
	p.setLocked(StateActivating)
}

// lastingTries in a row that failed are asked maintenance for, though the next may
// succeed.
const lastingTries = 3

// fail notes why the peer does not serve, asks for its maintenance where that
// lasts, and returns when to try again.
func (p *peer) fail(ctx context.Context, err error) time.Duration {
	e := sdk.FromError(err)
	p.mu.Lock()
	wait := min(retryMin<<min(p.tries, 16), retryMax)
	p.tries++
	lasts := p.want != Inactive && (!e.Retryable || p.tries >= lastingTries)
	p.mu.Unlock()
	p.service.opt.Logger.Warn("protocol is not in service", "protocol", p.name, "error", err, "again_in", wait)
	if lasts {
		p.file(ctx, e)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempt++
	p.err = e
	p.setLocked(StateFailed)
	if !e.Retryable && p.want != Inactive {
		p.gate.lock(unready(p.name, e))
	}
	return wait
}

// arrived notes that the peer is in a mode, and lets calls in.
func (p *peer) arrived(mode Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempt++
	if p.gone { // what was activated is no more: once again
		p.nudge()
		return
	}
	p.err, p.tries = nil, 0
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
		if err := other.inService(ctx); err != nil {
			return needs(p.name, name, err)
		}
	}
	if p.service.opt.Components == nil {
		return nil
	}
	p.release()
	for _, name := range set.Components {
		release, err := p.service.opt.Components.Need(ctx, name, "protocol "+p.name)
		if err != nil {
			p.release()
			return needs(p.name, "the component "+name, err)
		}
		p.mu.Lock()
		p.needs = append(p.needs, release)
		p.mu.Unlock()
	}
	return nil
}

// lacks says which of the components that the peer needs is gone, for more than a
// moment; nil: none.
func (p *peer) lacks() error {
	if p.service.opt.Components == nil {
		return nil
	}
	for _, name := range p.set.Load().Components {
		if err := p.service.opt.Components.Gone(name); err != nil {
			return needs(p.name, "the component "+name, err)
		}
	}
	return nil
}

// inService waits until the peer serves, which it makes happen where the peer is
// so on demand, or until it is known that it will not.
func (p *peer) inService(ctx context.Context) error {
	for {
		p.need()
		p.mu.Lock()
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
		return notActivated(name, mode, err)
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
	made, err := p.newGrant(ctx)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	p.grant = made
	p.mu.Unlock()
	return made.secret, nil
}

// admit judges the next generation, before it is put in service.
func (p *peer) admit(ctx context.Context, generation int, client pluginv1.ProtocolClient) error {
	p.mu.Lock()
	if !p.state.serves() || p.want == Inactive {
		defer p.mu.Unlock()
		p.tries = 0 // what kept the one before from service may not keep this one
		p.nudge()
		return nil
	}
	mode := p.want
	p.mu.Unlock()
	err := p.activateOn(ctx, client, generation, mode)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.state.serves() { // none is better off without this one
		return nil
	}
	return err
}
