package protocol

import (
	"context"
	"time"
)

// grant is a token that was given out.
type grant struct {
	secret string
	end    func()
	renew  time.Time // when another takes its place; zero: never
}

// renewRetry is how long a renewal that failed waits, at most.
const renewRetry = 10 * time.Minute

// renewed gives a peer that is in service another token before the one that it works
// under expires, and returns when to look again; 0: it has none that expires.
func (p *peer) renewed(ctx context.Context, mode Mode) time.Duration {
	p.mu.Lock()
	old := p.grant
	p.mu.Unlock()
	if old.renew.IsZero() {
		return 0
	}
	if wait := time.Until(old.renew); wait > 0 {
		return wait
	}
	p.calling.Lock()
	next, err := p.newGrant(ctx)
	if err != nil {
		p.calling.Unlock()
		p.service.opt.Logger.Warn("renew the token of a protocol; it works on under the one that it has", "protocol", p.name, "error", err)
		return renewRetry
	}
	calling, cancel := context.WithTimeout(ctx, bringTimeout)
	err = switchMode(calling, p.name, p.client, next.secret, mode)
	cancel()
	p.calling.Unlock()
	p.mu.Lock()
	p.grant = next
	p.mu.Unlock()
	old.end()
	if err != nil { // it is not known under which it works, nor in which mode
		p.service.opt.Logger.Warn("hand a protocol its new token; it is taken into service anew", "protocol", p.name, "error", err)
		return p.bringIn(ctx, mode)
	}
	return time.Until(next.renew)
}

// newGrant has a token issued that is renewed when two thirds of its life are over.
func (p *peer) newGrant(ctx context.Context) (grant, error) {
	secret, life, end, err := p.service.opt.Grants.Service(ctx, p.name)
	if err != nil {
		return grant{}, err
	}
	g := grant{secret: secret, end: end}
	if life > 0 {
		g.renew = time.Now().Add(life / 3 * 2)
	}
	return g, nil
}

// sooner returns the sooner of two waits, of which 0 stands for none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
