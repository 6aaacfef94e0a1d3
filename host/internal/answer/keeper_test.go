package answer_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/answer"
	"github.com/sop-host/sop/sdk"
)

// memory is a store in memory.
type memory struct {
	mu   sync.Mutex
	rows map[string]answer.Row
	fail error // of Answer
}

func (m *memory) Reserve(_ context.Context, row answer.Row, before time.Time, full bool) (*answer.Row, answer.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var gone answer.Usage
	for id, r := range m.rows {
		if !r.At.After(before) {
			delete(m.rows, id)
			gone.Rows++
			gone.Bytes += int64(len(r.Sealed))
		}
	}
	if r, ok := m.rows[string(row.ID)]; ok {
		return &r, gone, nil
	}
	if !full {
		m.rows[string(row.ID)] = row
	}
	return nil, gone, nil
}

func (m *memory) Answer(_ context.Context, id, sealed []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	r := m.rows[string(id)]
	r.Sealed = sealed
	m.rows[string(id)] = r
	return nil
}

func (m *memory) Release(_ context.Context, id []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.rows, string(id))
	return nil
}

func (m *memory) Usage(context.Context) (answer.Usage, error) { return answer.Usage{}, nil }

var hostKey = bytes.Repeat([]byte{7}, 32)

func keeper(t *testing.T, m *memory, now func() time.Time) *answer.Keeper {
	t.Helper()
	if m.rows == nil {
		m.rows = make(map[string]answer.Row)
	}
	k, err := answer.NewKeeper(t.Context(), m, hostKey, now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return sdk.FromError(err).Reason
}

func TestOneEffectForManyCalls(t *testing.T) {
	k := keeper(t, &memory{}, nil)
	var effects, repeated atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			got, again, err := k.Do(context.Background(), answer.Call{Caller: "a", Key: "k", Request: []byte("r")}, func() ([]byte, bool) {
				effects.Add(1)
				return []byte("secret"), true
			})
			if err != nil || string(got) != "secret" {
				t.Errorf("%q, %v", got, err)
			}
			if again {
				repeated.Add(1)
			}
		})
	}
	wg.Wait()
	if effects.Load() != 1 || repeated.Load() != 63 {
		t.Errorf("%d effects, %d repeated", effects.Load(), repeated.Load())
	}
}

func TestKeeper(t *testing.T) {
	m := &memory{}
	now := time.Unix(1e9, 0)
	clock := func() time.Time { return now }
	k := keeper(t, m, clock)
	runs := 0
	do := func(c answer.Call, text string, final bool) (string, bool, string) {
		got, again, err := k.Do(t.Context(), c, func() ([]byte, bool) { runs++; return []byte(text), final })
		return string(got), again, reason(err)
	}
	expect := func(c answer.Call, final bool, want string, wantAgain bool, wantReason string, wantRuns int) {
		t.Helper()
		got, again, why := do(c, "new", final)
		if got != want || again != wantAgain || why != wantReason || runs != wantRuns {
			t.Errorf("%q %v %q after %d runs, want %q %v %q %d", got, again, why, runs, want, wantAgain, wantReason, wantRuns)
		}
	}
	call := answer.Call{Caller: "a", Key: "k", Request: []byte("r")}
	do(call, "old", true)
	expect(call, true, "old", true, "", 1)
	expect(answer.Call{Caller: "a", Key: "k", Request: []byte("other")}, true, "", true, "IDEMPOTENCY_KEY_REUSED", 1)
	expect(answer.Call{Caller: "b", Key: "k", Request: []byte("r")}, true, "new", false, "", 2)
	expect(answer.Call{Caller: "a", Key: "a b", Request: []byte("r")}, true, "", false, "IDEMPOTENCY_KEY", 2)
	k = keeper(t, m, clock) // a new process
	expect(call, true, "old", true, "", 2)
	now = now.Add(answer.Life)
	expect(call, true, "new", false, "", 3)

	// What is not final is done again.
	passing := answer.Call{Caller: "a", Key: "p", Request: []byte("r")}
	expect(passing, false, "new", false, "", 4)
	expect(passing, true, "new", false, "", 5)

	// A call that was cut off: a reservation without an answer.
	m.fail = errors.New("the disk is full")
	cut := answer.Call{Caller: "a", Key: "cut", Request: []byte("r")}
	expect(cut, true, "new", false, "", 6)
	m.fail = nil
	k = keeper(t, m, clock)
	expect(cut, true, "", true, "IDEMPOTENCY_UNKNOWN", 6)
	cut.Repeatable = true
	expect(cut, true, "new", false, "", 7)
	expect(cut, true, "new", true, "", 7)
}

// Nothing in the store tells a key, a caller or an answer.
func TestNothingIsInTheClear(t *testing.T) {
	m := &memory{}
	k := keeper(t, m, nil)
	if _, _, err := k.Do(t.Context(), answer.Call{Caller: "caller", Key: "thekey", Request: []byte("request")}, func() ([]byte, bool) { return []byte("sop_secret"), true }); err != nil {
		t.Fatal(err)
	}
	for _, r := range m.rows {
		all := string(r.ID) + string(r.Request) + string(r.Sealed)
		for _, word := range []string{"caller", "thekey", "request", "sop_secret"} {
			if strings.Contains(all, word) {
				t.Errorf("%q is in the row", word)
			}
		}
	}
}

func TestWaitingEndsWithTheCaller(t *testing.T) {
	k := keeper(t, &memory{}, nil)
	call := answer.Call{Caller: "a", Key: "k", Request: []byte("r")}
	begun, end := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := k.Do(context.Background(), call, func() ([]byte, bool) { close(begun); <-end; return nil, true }); err != nil {
			t.Error(err)
		}
	})
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := k.Do(ctx, call, func() ([]byte, bool) { return nil, true }); sdk.FromError(err).Code != codes.Canceled {
		t.Errorf("%v", err)
	}
	close(end)
	wg.Wait()
}
