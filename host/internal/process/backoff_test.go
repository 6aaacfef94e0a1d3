package process

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	r := Restarts{Policy: Backoff{BackoffMin: time.Second, BackoffMax: 3 * time.Second, BreakerFailures: 6, BreakerWindow: time.Minute}}
	now := time.Unix(0, 0)
	bounds := []struct{ min, max int64 }{{0, 0}, {500, 1000}, {1000, 2000}, {1500, 3000}, {1500, 3000}} // milliseconds
	for i, b := range bounds {
		wait, open := r.Fail(now)
		if open || wait.Milliseconds() < b.min || wait.Milliseconds() > b.max {
			t.Errorf("failure %d: wait %v, open %v", i+1, wait, open)
		}
	}
	if _, open := r.Fail(now); !open {
		t.Error("the breaker did not open at the sixth failure")
	}
	if wait, open := r.Fail(now.Add(2 * time.Minute)); open || wait != 0 {
		t.Errorf("after a stable period: wait %v, open %v", wait, open)
	}
}
