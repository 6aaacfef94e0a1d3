package ship

import (
	"context"
	"sync"

	"github.com/sop-host/sop/host/internal/audit"
)

// maxNotes is how many checkpoints may wait; beyond it the oldest is left to
// those after it, which say all that it says.
const maxNotes = 64

// notes are checkpoints that wait to be sent.
type notes struct {
	mu      sync.Mutex
	waiting []*audit.Checkpoint
	wake    chan struct{}
}

func newNotes() *notes { return &notes{wake: make(chan struct{}, 1)} }

func (n *notes) put(c *audit.Checkpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) >= maxNotes {
		n.waiting = append(n.waiting[:0], n.waiting[1:]...)
	}
	n.waiting = append(n.waiting, c)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// first returns the one to send next, beyond a size, or nil. newest leaves out
// all but the last.
func (n *notes) first(beyond uint64, newest bool) *audit.Checkpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.waiting) > 0 && (n.waiting[0].Size <= beyond || newest && len(n.waiting) > 1) {
		n.waiting = n.waiting[1:]
	}
	if len(n.waiting) == 0 {
		return nil
	}
	return n.waiting[0]
}

// nextNote waits for a checkpoint. After a failure, only the newest counts. At
// the beginning it is the last of the store, if that has not been sent.
func (c *carrier) nextNote(ctx context.Context) ([]message, uint64, error) {
	for {
		state := c.status()
		note := c.notes.first(state.Sent, state.Failures > 0)
		if note == nil {
			last, err := c.opt.Trail.Store.LastCheckpoint(ctx)
			if err != nil {
				return nil, 0, err
			}
			if last != nil && last.Size > state.Sent {
				note = last
			}
		}
		if note != nil {
			return []message{{note: note}}, note.Size, nil
		}
		select {
		case <-c.notes.wake:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}
