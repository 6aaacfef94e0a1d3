package startup

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sop-host/sop/host/internal/event"
)

// The log is verified an interval after the last time, also when an earlier host did
// that, as a reload says, and not in a storm when it cannot be.
func TestVerifySchedule(t *testing.T) {
	for name, test := range map[string]struct {
		last  time.Duration // ago; 0: never
		every time.Duration
		keeps bool // what it finds is noted
		want  []time.Duration
	}{
		"never was":           {0, 24 * time.Hour, true, []time.Duration{24 * time.Hour, 48 * time.Hour}},
		"an earlier host did": {20 * time.Hour, 24 * time.Hour, true, []time.Duration{4 * time.Hour, 28 * time.Hour}},
		"overdue":             {100 * time.Hour, 24 * time.Hour, true, []time.Duration{0, 24 * time.Hour}},
		"the clock was wrong": {-time.Hour, 24 * time.Hour, true, []time.Duration{24 * time.Hour, 48 * time.Hour}},
		"it cannot be":        {100 * time.Hour, 24 * time.Hour, false, []time.Duration{0, verifyAgain, 2 * verifyAgain}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				var last time.Time
				if test.last != 0 {
					last = begin.Add(-test.last)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var changed event.Notice
				s := verifySchedule{begin, func() time.Time { return last }, func() time.Duration { return test.every }, changed.Wait}
				var got []time.Duration
				s.run(ctx, func(context.Context) {
					if test.keeps {
						last = time.Now()
					}
					if got = append(got, time.Since(begin)); len(got) == len(test.want) {
						cancel()
					}
				})
				for i, want := range test.want {
					if got[i] != want {
						t.Errorf("verified after %v, not %v", got, test.want)
					}
				}
			})
		})
	}
}

// A reload that sets an interval is followed at once.
func TestVerifyScheduleReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var changed event.Notice
		every := time.Duration(0)
		s := verifySchedule{begin, func() time.Time { return time.Time{} }, func() time.Duration { return every }, changed.Wait}
		done := make(chan time.Duration, 1)
		go s.run(ctx, func(context.Context) { done <- time.Since(begin); cancel() })
		synctest.Wait()
		every = time.Hour
		changed.Tell()
		if after := <-done; after != time.Hour {
			t.Errorf("verified after %v", after)
		}
	})
}

// What was found is known to the next host.
func TestVerifiedIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "last")
	var first, next verified
	if err := first.load(path); err != nil || first.last.Load() != nil {
		t.Fatalf("%v, %v", first.last.Load(), err)
	}
	at := time.Now()
	if err := first.note(verification{at, outcomeFault}); err != nil {
		t.Fatal(err)
	}
	if err := next.load(path); err != nil {
		t.Fatal(err)
	}
	if last := next.last.Load(); last == nil || !last.At.Equal(at) || len(next.reasons()) != 1 {
		t.Errorf("%+v", last)
	}
}
