package plugin

import (
	"context"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// Dedicated is a generation of a configured plugin that serves one caller, in a
// view of a workspace. It is a [grpc.ClientConnInterface]: make a client from
// it with the NewClient of the plugin's kind. It is not restarted. When its end
// comes by itself, calls fail; it must be closed in any case.
type Dedicated struct {
	*Conn
	generation *generation
	view       *viewed
}

// DedicatedError says why a dedicated generation did not come into service.
type DedicatedError struct {
	Err error
	// Result is the evidence of the run; zero, which means refused, where there
	// was none.
	Result sandbox.Result
}

// Error returns the cause; it names the plugin already.
func (e *DedicatedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *DedicatedError) Unwrap() error { return e.Err }

// Dedicated starts a generation of its own of the configured plugin with that
// id in a view, as its block stands now: the locked program, and its
// configuration. The profile of the view is in force for it, instead of the
// block's sandbox_profile and limits. ctx is its whole life: when it is done
// everything is killed. An error is a [*DedicatedError], or says that there is no
// such plugin.
func (p *Pool) Dedicated(ctx context.Context, id string, view View) (*Dedicated, error) {
	u, err := p.unit(id)
	if err != nil {
		return nil, err
	}
	view.Spec.Profile.Limits = view.Spec.Profile.Limits.OrDefault()
	spec := u.spec.Load().Clone()
	spec.Sandbox, spec.CallTimeout = nil, view.Spec.Profile.Limits.Wall
	v := newViewed(ctx, view)
	g, err := p.startInView(spec, v)
	if err != nil {
		p.logger.Error("plugin did not start in a view", "plugin", id, "error", err)
		return nil, &DedicatedError{Err: err, Result: v.discard()}
	}
	p.logger.Info("plugin started in a view", "plugin", id, "level", view.Spec.Profile.Level)
	d := &Dedicated{generation: g, view: v}
	d.Conn = &Conn{id: id, find: func() (lane, error) { return &dedicatedLane{g, &u.meter}, nil }}
	return d, nil
}

// startInView starts the generation such that the pool's end is its end too.
func (p *Pool) startInView(spec *Spec, v *viewed) (*generation, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	p.background.Add(1)
	p.mu.Unlock()
	unhook := context.AfterFunc(p.ctx, v.cancel)
	g, err := p.starter.start(v.life, spec, 0, func(Phase) {}, "", v)
	if err != nil {
		unhook()
		p.background.Done()
		return nil, err
	}
	go func() {
		defer p.background.Done()
		<-g.runner.reaped
		unhook()
		g.stop(0)
	}()
	return g, nil
}

// discard ends a run that is of no use and returns its evidence.
func (v *viewed) discard() sandbox.Result {
	v.cancel()
	if !v.hasBegun() {
		return sandbox.Result{}
	}
	<-v.done
	if v.outcome == nil {
		return sandbox.Result{}
	}
	_ = v.outcome.Close() // nobody wants what it has left
	return v.outcome.Result
}

// Places are those of the plugin: where it finds the workspace, and what it may
// write to.
func (d *Dedicated) Places() sandbox.Places { return d.view.ownPlaces() }

// Close asks the plugin to end, kills it and all that it has started when its
// grace is over, and returns when nothing of it is alive. The outcome is the
// caller's to close. Close may be called once.
func (d *Dedicated) Close() (*sandbox.Outcome, error) {
	d.generation.retire(0)
	<-d.view.done
	d.view.cancel()
	return d.view.outcome, d.view.err
}

// dedicatedLane leads to one generation and no other.
type dedicatedLane struct {
	generation *generation
	meter      *meter
}

func (l *dedicatedLane) acquire(context.Context) (*generation, error) {
	if l.generation.acquire() {
		return l.generation, nil
	}
	return nil, failf(ReasonUnavailable, "the run of plugin %s is over", l.generation.spec.ID())
}

func (l *dedicatedLane) callTimeout() time.Duration { return l.generation.spec.CallTimeout }

func (l *dedicatedLane) metered() *meter { return l.meter }
