package protocol

import (
	"context"
	"fmt"
	"time"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

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

// lost notes that no generation serves. Calls wait while the peer comes into
// service anew, with the next one or, where there is to be none, not at all.
func (p *peer) lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if p.state.serves() {
		p.gate.hold()
		p.setLocked(StateActivating)
		p.nudge()
	}
}

// takeOut takes the peer out of service: nobody is let in any more, those in
// flight have their time, and then are cut off.
func (p *peer) takeOut(ctx context.Context) {
	set := p.set.Load()
	if set.Activation == OnDemand && !p.isManual() {
		p.gate.hold() // who comes now is served by what comes next
	} else {
		p.gate.lock(inactive(p.name))
	}
	p.move(StateDeactivating) // nobody is let in once this shows
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
func (p *peer) cutOff(why *sdk.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for f := range p.inCall {
		f.end(why)
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
