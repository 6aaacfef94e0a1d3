package protocol

import (
	"container/list"
	"context"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// gate lets a bounded number of calls in at a time, first come, first served,
// and a bounded number wait. While it is shut they wait; while it is locked they
// are turned away.
type gate struct {
	mu       sync.Mutex
	places   int
	queue    int
	in       int
	open     bool
	refusal  error      // why nobody is let in; nil: those who come wait
	waiting  *list.List // of *waiter
	emptied  chan struct{}
	protocol string
}

type waiter struct {
	done chan struct{} // closed when it was let in or turned away
	err  error
}

func newGate(protocol string, refusal error) *gate {
	return &gate{protocol: protocol, refusal: refusal, waiting: list.New(), places: 1}
}

// bounds sets how many are let in and may wait.
func (g *gate) bounds(places, queue int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places, g.queue = places, queue
	g.admitLocked()
}

// admit opens the gate.
func (g *gate) admit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.refusal = true, nil
	g.admitLocked()
}

// hold shuts the gate: who comes waits, and who waits goes on waiting.
func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.refusal = false, nil
}

// lock turns everybody away with why, those who wait too.
func (g *gate) lock(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.refusal = false, why
	for e := g.waiting.Front(); e != nil; e = g.waiting.Front() {
		g.dismissLocked(e, why)
	}
}

func (g *gate) dismissLocked(e *list.Element, err error) {
	w := g.waiting.Remove(e).(*waiter) //nolint:forcetypeassert // it holds nothing else
	w.err = err
	close(w.done)
}

// admitLocked lets in whom there is a place for. g.mu is held.
func (g *gate) admitLocked() {
	for g.open && g.in < g.places && g.waiting.Len() > 0 {
		g.in++
		g.dismissLocked(g.waiting.Front(), nil)
	}
}

// enter returns when the caller is in, and an error when it is not let in or ctx
// ends first. Who is in leaves.
func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	switch {
	case g.refusal != nil:
		defer g.mu.Unlock()
		return g.refusal
	case g.open && g.in < g.places && g.waiting.Len() == 0:
		g.in++
		g.mu.Unlock()
		return nil
	case g.waiting.Len() >= g.queue:
		defer g.mu.Unlock()
		return g.busyLocked()
	}
	w := &waiter{done: make(chan struct{})}
	e := g.waiting.PushBack(w)
	g.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.done:
		if w.err == nil {
			g.leaveLocked()
		}
	default:
		g.waiting.Remove(e)
	}
	return ctx.Err()
}

// busyLocked says that too many wait. g.mu is held.
func (g *gate) busyLocked() error {
	e := sdk.Errorf(codes.ResourceExhausted, ReasonBusy, "protocol %s has %d calls in flight and %d waiting; it takes no more", g.protocol, g.in, g.waiting.Len()).
		WithRemedy("wait before the next call, or raise max_in_flight or max_queue of the protocol")
	e.Retryable = true
	return e
}

// leave ends what enter began.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaveLocked()
}

func (g *gate) leaveLocked() {
	g.in--
	if g.in == 0 && g.emptied != nil {
		close(g.emptied)
		g.emptied = nil
	}
	g.admitLocked()
}

// empty returns a channel that is closed when nobody is in.
func (g *gate) empty() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.in == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if g.emptied == nil {
		g.emptied = make(chan struct{})
	}
	return g.emptied
}

// counts returns how many are in and how many wait.
func (g *gate) counts() (in, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.in, g.waiting.Len()
}
