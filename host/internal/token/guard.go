package token

import (
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// guard slows sources down that present what no token is: after a few failures
// a source is refused for a time that doubles with each further one. Failures
// are forgiven with time only; a success forgives nothing, so that a valid token
// is no help in guessing.
type guard struct {
	mu      sync.Mutex
	sources map[string]*failures
}

type failures struct {
	count   int
	last    time.Time // the last failure, or the last one forgiven
	blocked time.Time // until then
}

const (
	freeFailures  = 20
	forgiveAfter  = 10 * time.Second // one failure
	firstDelay    = time.Second
	longestDelay  = time.Minute
	maxFailures   = 64
	maxSources    = 4096
	sharedSources = "\x00others" // those for whom there is no room
)

func newGuard() *guard { return &guard{sources: make(map[string]*failures)} }

// refuse returns an error while the source has to wait.
func (g *guard) refuse(source string, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sources) == 0 {
		return nil
	}
	f := g.sources[source]
	if f == nil && len(g.sources) >= maxSources {
		f = g.sources[sharedSources]
	}
	if f == nil || !now.Before(f.blocked) {
		return nil
	}
	wait := f.blocked.Sub(now).Round(time.Millisecond)
	e := sdk.Errorf(codes.ResourceExhausted, ReasonGuessing, "too many tokens that are none came from here; wait %s", wait).
		WithRemedy("check where the token comes from before trying again")
	e.Retryable = true
	e.Metadata = map[string]string{"retry_after": wait.String()}
	return e
}

// failed counts a failure.
func (g *guard) failed(source string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.entry(source, now)
	f.forgive(now)
	f.count = min(f.count+1, maxFailures)
	if over := f.count - freeFailures; over > 0 {
		f.blocked = now.Add(min(longestDelay, firstDelay<<min(over-1, 10)))
	}
}

func (g *guard) entry(source string, now time.Time) *failures {
	if f := g.sources[source]; f != nil {
		return f
	}
	if len(g.sources) >= maxSources-1 {
		g.tidy(now)
	}
	if len(g.sources) >= maxSources-1 {
		source = sharedSources
	}
	f := g.sources[source]
	if f == nil {
		f = &failures{last: now}
		g.sources[source] = f
	}
	return f
}

// tidy drops sources to which everything is forgiven.
func (g *guard) tidy(now time.Time) {
	for source, f := range g.sources {
		if f.forgive(now); f.count == 0 {
			delete(g.sources, source)
		}
	}
}

func (f *failures) forgive(now time.Time) {
	n := int(now.Sub(f.last) / forgiveAfter)
	if n <= 0 {
		return
	}
	f.count = max(0, f.count-n)
	f.last = f.last.Add(time.Duration(n) * forgiveAfter)
}
