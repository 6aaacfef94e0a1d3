package plugin

import (
	"context"
	"syscall"

	"github.com/sop-host/sop/sdk"
)

// halted says why nothing is to be started, as a failure that is not tried again;
// nil when all may.
func (p *Pool) halted() *sdk.Error {
	if p.haltedBy == nil {
		return nil
	}
	if err := p.haltedBy(); err != nil {
		return sdk.FromError(err)
	}
	return nil
}

// Kill kills every plugin at once, without grace and without draining. While
// [Options.Halted] objects, none is started again.
func (p *Pool) Kill() {
	for _, u := range p.all() {
		u.mu.Lock()
		if u.cancel != nil {
			u.cancel()
		}
		g := u.current.Load()
		u.mu.Unlock()
		if g == nil {
			continue
		}
		if err := g.runner.signal(syscall.SIGKILL); err != nil {
			p.logger.Error("kill plugin", "plugin", u.id, "error", err)
		}
	}
}

// Retry starts every plugin that is not in service, with a clean record.
func (p *Pool) Retry() {
	for _, u := range p.all() {
		u.retryNow()
	}
}

// all returns the units, in no order.
func (p *Pool) all() []*unit {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make([]*unit, 0, len(p.units))
	for _, u := range p.units {
		out = append(out, u)
	}
	return out
}

// InService says whether a plugin is in service.
func (p *Pool) InService(id string) bool {
	u, err := p.unit(id)
	if err != nil {
		return false
	}
	g := u.current.Load()
	return g != nil && !isClosed(g.runner.exited)
}

// AwaitService returns when the plugin is in service, however often it fails
// before, or with the error of ctx.
func (p *Pool) AwaitService(ctx context.Context, id string) error {
	u, err := p.unit(id)
	if err != nil {
		return err
	}
	for {
		u.mu.Lock()
		changed := u.changed
		u.mu.Unlock()
		if p.InService(id) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
