package process

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Backoff says when what has failed is started again.
type Backoff struct {
	// BackoffMin is the wait before the second restart; the first is immediate.
	BackoffMin time.Duration
	// BackoffMax bounds the wait, which doubles with each failure.
	BackoffMax time.Duration
	// BreakerFailures within BreakerWindow open the breaker: it stays failed until
	// its configuration changes or an operator starts it.
	BreakerFailures int
	BreakerWindow   time.Duration
}

// DefaultBackoff is what an empty restart block means.
var DefaultBackoff = Backoff{
	BackoffMin: 100 * time.Millisecond, BackoffMax: 30 * time.Second,
	BreakerFailures: 5, BreakerWindow: time.Minute,
}

// Restarts applies a policy to a sequence of failures. Those that lie further
// back than the window are forgotten, and with them the waits.
type Restarts struct {
	Policy   Backoff
	failures []time.Time // within the window, oldest first
}

// Fail records a failure at now and returns how long to wait before the next
// start, or open when there is to be none.
func (r *Restarts) Fail(now time.Time) (wait time.Duration, open bool) {
	r.failures = slices.DeleteFunc(r.failures, func(at time.Time) bool { return now.Sub(at) >= r.Policy.BreakerWindow })
	r.failures = append(r.failures, now)
	n := len(r.failures)
	if n >= r.Policy.BreakerFailures {
		return 0, true
	}
	if n == 1 {
		return 0, false
	}
	wait = r.Policy.BackoffMin
	for range n - 2 {
		if wait *= 2; wait >= r.Policy.BackoffMax {
			break
		}
	}
	wait = min(wait, r.Policy.BackoffMax)
	// Jitter: between half and all of it, so that those that fell together do
	// not rise together.
	return wait/2 + rand.N(wait/2+1), false //nolint:gosec // jitter is no secret
}

// Reset forgets the failures.
func (r *Restarts) Reset() { r.failures = r.failures[:0] }
