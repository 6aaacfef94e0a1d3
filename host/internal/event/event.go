// Package event is the in-process bus on which facts rise: a feature publishes
// what has happened, and whoever cares subscribes by type.
//
// It starts no goroutine and imports nothing of ours. Any package of the host
// may import it.
package event

import (
	"errors"
	"sync"
)

// Reasons why a subscription ended. [Subscription.Err] returns them.
var (
	// ErrLagged: the subscriber did not keep up and was cut off. It has missed
	// events and should read the state anew before it subscribes again.
	ErrLagged = errors.New("lagged: events came faster than they were read")
	// ErrClosed: the bus was closed.
	ErrClosed = errors.New("event bus closed")
)

// Bus delivers every published value to every subscription whose type it has,
// in the order of publication. The zero value is ready for use; all methods are
// safe for concurrent use.
type Bus struct {
	mu     sync.Mutex
	subs   map[subscriber]struct{}
	closed bool
	stats  Stats
}

// subscriber is a Subscription of any type. Its methods are called with the
// mutex of the bus held.
type subscriber interface {
	offer(v any) bool // false: the buffer is full
	end(reason error)
	waiting() int
}

// Publish hands v to the subscriptions. It never blocks: a subscription whose
// buffer is full is ended with [ErrLagged]. Subscribers share v and do not
// change what it refers to.
func (b *Bus) Publish(v any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Published++
	for s := range b.subs {
		if !s.offer(v) {
			b.stats.Lagged++
			delete(b.subs, s)
			s.end(ErrLagged)
		}
	}
}

// Close ends every subscription with [ErrClosed] and drops what is published
// from then on. It may be called again.
func (b *Bus) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for s := range b.subs {
		s.end(ErrClosed)
	}
	clear(b.subs)
}

// Subscription receives the events of type T; any stands for all of them.
type Subscription[T any] struct {
	bus   *Bus
	ch    chan T
	ended bool
	err   error
}

// Subscribe returns a subscription that may fall behind by buffer events, at
// least one. On a closed bus it has ended already. Whoever subscribes closes.
func Subscribe[T any](b *Bus, buffer int) *Subscription[T] {
	s := &Subscription[T]{bus: b, ch: make(chan T, max(buffer, 1))}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		s.end(ErrClosed)
		return s
	}
	if b.subs == nil {
		b.subs = make(map[subscriber]struct{})
	}
	b.subs[s] = struct{}{}
	return s
}

// C returns the channel of events. It is closed, after what is buffered, when
// the subscription ends; Err then says why.
func (s *Subscription[T]) C() <-chan T { return s.ch }

// Err returns nil while the subscription lives and after its own Close, and
// otherwise [ErrLagged] or [ErrClosed].
func (s *Subscription[T]) Err() error {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	return s.err
}

// Close ends the subscription. It may be called again.
func (s *Subscription[T]) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.subs, subscriber(s))
	s.end(nil)
}

func (s *Subscription[T]) offer(v any) bool {
	event, ok := v.(T)
	if !ok {
		return true
	}
	select {
	case s.ch <- event:
		return true
	default:
		return false
	}
}

func (s *Subscription[T]) end(reason error) {
	if s.ended {
		return
	}
	s.ended, s.err = true, reason
	close(s.ch)
}
