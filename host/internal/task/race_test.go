package task_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/task"
)

// TestClaimRaces: 64 claimants want the same few tasks, a million times in the
// long tests. No task is held by two, whatever the database thinks; leases that
// end under their holders are given to others, and what the late holder brings is
// refused.
func TestClaimRaces(t *testing.T) {
	const claimants, tasks = 64, 8
	races := int64(20_000)
	if os.Getenv("SOP_TEST_LONG") != "" {
		races = 1_000_000
	}
	b := newBench(t, task.Settings{Lease: time.Minute, Attempts: 1 << 30})
	held := make(map[string]*atomic.Int64) // by task: the fence of who holds it, or 0
	for range tasks {
		held[b.make(t, func(n *task.New) { n.Attempts = 100 }).ID] = new(atomic.Int64)
	}
	var raced, won, lapsed, stale atomic.Int64
	var turn sync.RWMutex // held for writing while time passes
	var wg sync.WaitGroup
	for i := range claimants {
		wg.Go(func() {
			for raced.Add(1) <= races && !t.Failed() {
				turn.RLock()
				hold := b.race(t, fmt.Sprint("agent-", i), held, &won)
				turn.RUnlock()
				if hold == nil {
					continue
				}
				if rand.IntN(50) == 0 { // it lost its lease
					turn.Lock()
					for _, h := range held {
						h.Store(0)
					}
					b.pass(2 * time.Minute)
					if _, err := b.Sweep(t.Context()); err != nil {
						t.Error(err)
					}
					turn.Unlock()
					lapsed.Add(1)
				}
				turn.RLock()
				b.giveBack(t, hold, held[hold.ID], &stale)
				turn.RUnlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d races, %d won, %d times the leases ended, %d results refused", races, won.Load(), lapsed.Load(), stale.Load())
	if won.Load() < tasks || lapsed.Load() == 0 || stale.Load() == 0 {
		t.Error("too little happened")
	}
}

// race claims what there is, and checks that nobody else holds it.
func (b *bench) race(t *testing.T, by string, held map[string]*atomic.Int64, won *atomic.Int64) *task.Hold {
	got, err := b.Claim(t.Context(), task.ClaimRequest{Stage: task.StageGenerate, By: by})
	if err != nil {
		t.Error(err)
		return nil
	}
	if got == nil {
		return nil
	}
	won.Add(1)
	if before := held[got.ID].Swap(got.Fence); before != 0 {
		t.Errorf("task %s is held under %d and under %d", got.ID, before, got.Fence)
	}
	h := got.Hold()
	return &h
}

// giveBack releases a task, which succeeds exactly while the fence counts.
func (b *bench) giveBack(t *testing.T, h *task.Hold, held *atomic.Int64, stale *atomic.Int64) {
	mine := held.CompareAndSwap(h.Fence, 0)
	_, err := b.Release(t.Context(), *h, "")
	switch {
	case mine && err != nil:
		t.Errorf("the holder of %s under %d could not give it back: %v", h.ID, h.Fence, err)
	case !mine && reason(err) != task.ReasonFence:
		t.Errorf("whoever lost %s under %d was let: %v", h.ID, h.Fence, err)
	case !mine:
		stale.Add(1)
	}
}
