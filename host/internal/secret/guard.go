package secret

import (
	"sync"
	"time"
)

// Guard slows sources down that present what no secret is: after a few failures
// a source is refused for a time that doubles with each further one. Failures
// are forgiven with time only; a success forgives nothing, so that a valid secret
// is no help in guessing. All methods are safe for concurrent use.
type Guard struct {
	mu      sync.Mutex
	sources map[string]*failures
	tidied  time.Time // when those were last dropped that are forgiven
}

type failures struct {
	count   int
	last    time.Time // the last failure, or the last one forgiven
	blocked time.Time // until then
	waited  int       // how often it came before that, since the last failure
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

// NewGuard returns a Guard that has seen nobody.
func NewGuard() *Guard { return &Guard{sources: make(map[string]*failures)} }

// Wait returns how long the source has to wait; zero or less: it need not. Who
// has to wait is counted; Failed says how many did.
func (g *Guard) Wait(source string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sources) == 0 {
		return 0
	}
	f := g.sources[source]
	if f == nil && len(g.sources) >= maxSources {
		f = g.sources[sharedSources]
	}
	if f == nil || !now.Before(f.blocked) {
		return 0
	}
	f.waited++
	return f.blocked.Sub(now).Round(time.Millisecond)
}

// Failed counts a failure. It returns how many times the source was made to
// wait since the failure before.
func (g *Guard) Failed(source string, now time.Time) (waited int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.entry(source, now)
	f.forgive(now)
	f.count = min(f.count+1, maxFailures)
	if over := f.count - freeFailures; over > 0 {
		f.blocked = now.Add(min(longestDelay, firstDelay<<min(over-1, 10)))
	}
	waited, f.waited = f.waited, 0
	return waited
}

func (g *Guard) entry(source string, now time.Time) *failures {
	if f := g.sources[source]; f != nil {
		return f
	}
	if len(g.sources) >= maxSources-1 && now.Sub(g.tidied) >= forgiveAfter {
		g.tidy(now)
		g.tidied = now
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
func (g *Guard) tidy(now time.Time) {
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
