package hook

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal is Events and Places in memory, and what was called.
type journal struct {
	mu     sync.Mutex
	events []*event.Record
	news   chan struct{}
	places map[string]int64
	told   []string // hook and kind
	answer func(h *Hook, e *event.Record) error
}

func newJournal() *journal {
	return &journal{news: make(chan struct{}), places: make(map[string]int64)}
}

func (j *journal) happen(kinds ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, kind := range kinds {
		j.events = append(j.events, &event.Record{Revision: int64(len(j.events) + 1), Kind: kind})
	}
	close(j.news)
	j.news = make(chan struct{})
}

func (j *journal) Bounds(context.Context) (first, last int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return 1, int64(len(j.events)), nil
}

func (j *journal) After(_ context.Context, revision int64, limit int) ([]*event.Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	rest := j.events[revision:]
	return rest[:min(limit, len(rest))], nil
}

func (j *journal) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.news
}

func (j *journal) Place(_ context.Context, name string) (int64, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, found := j.places[name]
	return at, found, nil
}

func (j *journal) SetPlace(_ context.Context, name string, revision int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.places[name] = revision
	return nil
}

func (j *journal) call(_ context.Context, h *Hook, e *event.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told = append(j.told, h.Name+" "+e.Kind)
	if j.answer != nil {
		return j.answer(h, e)
	}
	return nil
}

func (j *journal) wants(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	slices.Sort(j.told)
	slices.Sort(want)
	if !slices.Equal(j.told, want) {
		t.Errorf("told %q, want %q", j.told, want)
	}
	j.told = nil
}

func (j *journal) service(ctx context.Context) *Service {
	return New(ctx, Options{Events: j, Places: j, Call: j.call})
}

func hook(name string, on ...string) Hook {
	return Hook{Name: name, On: on, Protocol: "arp", Operation: "analyze", Timeout: time.Second}
}

// While everything is stopped no hook is told of anything, nor is what failed for that
// counted; afterwards each is told of all, in order.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		var held atomic.Bool
		var changed event.Notice
		j.answer = func(_ *Hook, e *event.Record) error {
			if e.Kind == "task.b" && held.CompareAndSwap(false, true) { // in the middle of a call
				return sdk.Errorf(codes.FailedPrecondition, "EMERGENCY_STOPPED", "stopped")
			}
			return nil
		}
		s := New(t.Context(), Options{Events: j, Places: j, Call: j.call, Held: func() (bool, <-chan struct{}) {
			wait := changed.Wait()
			return held.Load(), wait
		}})
		s.Set([]Hook{hook("h", "task.")})
		synctest.Wait()
		j.happen("task.a", "task.b", "task.c")
		j.wants(t, "h task.a", "h task.b")
		j.mu.Lock()
		j.answer = nil
		j.mu.Unlock()
		held.Store(false)
		changed.Tell()
		j.wants(t, "h task.b", "h task.c")
		held.Store(true)
		j.happen("task.d")
		synctest.Wait()
		if err := s.Close(); err != nil || j.places["h"] != 3 {
			t.Errorf("%v, place %d", err, j.places["h"])
		}
		j.wants(t)
	})
}

// Hooks are told of what they ask for, from when on they were there, and go on
// where they stood when the host starts anew.
func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		j.happen("task.failed")
		s := j.service(t.Context())
		s.Set([]Hook{hook("a", "task.failed"), hook("b", "task.", "gap.open")})
		synctest.Wait()
		j.happen("task.done", "gap.open", "task.failed", "token.used", "gap.opened")
		j.wants(t, "a task.failed", "b task.done", "b gap.open", "b task.failed")
		s.Set([]Hook{hook("a", "task.failed"), hook("b", "gap.opened")}) // b is another now
		j.happen("gap.opened", "task.failed")
		j.wants(t, "a task.failed", "b gap.opened")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		j.happen("task.failed", "gap.opened") // while nobody is there to be told
		j.wants(t)
		s = j.service(t.Context())
		s.Set([]Hook{hook("a", "task.failed"), hook("b", "gap.opened")})
		j.wants(t, "a task.failed", "b gap.opened")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// What may be tried again is, for a while; a hook that fails holds up no other,
// nor its own next event for ever.
func TestFailingHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		down := sdk.Errorf(codes.Unavailable, "PROTOCOL_DOWN", "it is down")
		down.Retryable = true
		failures := 2
		j.answer = func(h *Hook, e *event.Record) error {
			switch {
			case h.Name == "b":
				return nil
			case e.Kind == "task.bad":
				return errors.New("it makes no sense")
			case e.Kind == "task.down" || failures > 0:
				failures--
				return down
			}
			return nil
		}
		s := j.service(t.Context())
		s.Set([]Hook{hook("a", "task."), hook("b", "task.")})
		synctest.Wait()
		j.happen("task.failed")
		j.wants(t, "a task.failed", "b task.failed")
		time.Sleep(time.Minute)
		j.wants(t, "a task.failed", "a task.failed")
		j.happen("task.bad", "task.down", "task.failed")
		j.wants(t, "a task.bad", "a task.down", "b task.bad", "b task.down", "b task.failed")
		time.Sleep(time.Minute)
		j.wants(t, "a task.down", "a task.down", "a task.down", "a task.down", "a task.failed")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A call that the end of the host interrupts is made again.
func TestInterruptedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		s := New(t.Context(), Options{Events: j, Places: j, Call: func(ctx context.Context, h *Hook, e *event.Record) error {
			_ = j.call(ctx, h, e)
			<-ctx.Done()
			return ctx.Err()
		}})
		long := hook("a", "task.failed")
		long.Timeout = time.Hour
		s.Set([]Hook{long})
		synctest.Wait()
		j.happen("task.failed")
		j.wants(t, "a task.failed")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = j.service(t.Context())
		s.Set([]Hook{long})
		j.wants(t, "a task.failed")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
