package token

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// clock tells a time that never goes back: not when the system's clock is set
// back while the host runs, and not across restarts, because a mark is kept in
// the store. When the system's clock lies behind, time goes on at its pace from
// where it was.
type clock struct {
	wall func() time.Time
	mu   sync.Mutex
	last time.Time // the highest time told
	seen time.Time // what wall said then, with its monotonic reading
}

func newClock(wall func() time.Time, mark time.Time) *clock {
	return &clock{wall: wall, last: mark.UTC(), seen: wall()}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.wall()
	now := c.last.Add(max(0, seen.Sub(c.seen)))
	if wall := seen.Round(0).UTC(); wall.After(now) {
		now = wall
	}
	c.last, c.seen = now, seen
	return now
}

// markEvery is how far the mark in the store may lag behind what a write has
// seen. Nothing that was answered depends on it: before somebody is told that a
// token has expired, it is expired in the store, or the mark is not before that.
const markEvery = time.Second

// marked is the mark as the store has it.
type marked struct{ at atomic.Int64 }

// set raises the mark in a transaction when it lags.
func (m *marked) set(ctx context.Context, tx Tx, now time.Time) error {
	if now.UnixNano()-m.at.Load() < int64(markEvery) {
		return nil
	}
	return tx.SetClock(ctx, now)
}

// is says that a transaction with set at that time was committed.
func (m *marked) is(now time.Time) {
	if now.UnixNano()-m.at.Load() >= int64(markEvery) {
		m.raise(now)
	}
}

// reached says that the mark is not before a time.
func (m *marked) reached(at time.Time) bool { return m.at.Load() >= at.UnixNano() }

// raise says that the store has the mark at a time, or later.
func (m *marked) raise(to time.Time) {
	for {
		is := m.at.Load()
		if is >= to.UnixNano() || m.at.CompareAndSwap(is, to.UnixNano()) {
			return
		}
	}
}
