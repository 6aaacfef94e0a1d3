package event

import "sync"

// Notice tells any number of waiters that something has changed, without saying
// what: they look anew. The zero value is ready for use, from any goroutine.
type Notice struct {
	mu sync.Mutex
	ch chan struct{}
}

// Wait returns a channel that is closed at the next Tell. Call it before
// looking at what may change, so that no change is missed.
func (n *Notice) Wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

// Tell wakes who waits.
func (n *Notice) Tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
}
