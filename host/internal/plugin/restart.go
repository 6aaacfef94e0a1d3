package plugin

import (
	"math/rand/v2"
	"slices"
	"time"
)

// RestartPolicy says when a plugin that has failed is started again.
type RestartPolicy struct {
	// BackoffMin is the wait before the second restart; the first is immediate.
	BackoffMin time.Duration
	// BackoffMax bounds the wait, which doubles with each failure.
	BackoffMax time.Duration
	// BreakerFailures within BreakerWindow open the breaker: the plugin stays
	// failed until its configuration changes or an operator restarts it.
	BreakerFailures int
	BreakerWindow   time.Duration
}

// DefaultRestartPolicy is what an empty restart block means.
var DefaultRestartPolicy = RestartPolicy{
	BackoffMin: 100 * time.Millisecond, BackoffMax: 30 * time.Second,
	BreakerFailures: 5, BreakerWindow: time.Minute,
}

// restarts applies a policy to a sequence of failures.
type restarts struct {
	policy   RestartPolicy
	failures []time.Time // within the window, oldest first
}

// fail records a failure at now and returns how long to wait before the next
// start, or open when there is to be none.
func (r *restarts) fail(now time.Time) (wait time.Duration, open bool) {
	r.failures = slices.DeleteFunc(r.failures, func(at time.Time) bool { return now.Sub(at) >= r.policy.BreakerWindow })
	r.failures = append(r.failures, now)
	n := len(r.failures)
	if n >= r.policy.BreakerFailures {
		return 0, true
	}
	if n == 1 {
		return 0, false
	}
	wait = r.policy.BackoffMin
	for range n - 2 {
		if wait *= 2; wait >= r.policy.BackoffMax {
			break
		}
	}
	wait = min(wait, r.policy.BackoffMax)
	// Jitter: between half and all of it, so that plugins that fell together
	// do not rise together.
	return wait/2 + rand.N(wait/2+1), false //nolint:gosec // jitter is no secret
}

// reset forgets the failures.
func (r *restarts) reset() { r.failures = r.failures[:0] }
