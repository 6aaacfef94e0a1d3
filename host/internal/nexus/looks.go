package nexus

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/policy"
)

// LooksEvery is how often a host should call [Looks.Flush].
const LooksEvery = time.Minute

// Looks puts on record who was let look at what. That is asked for all the time,
// changes nothing, and must be possible where nothing can be recorded; so the
// first time is a record of its own, which nobody waits for, and those that follow
// within [LooksEvery] are counted in one. All methods are safe for concurrent use.
type Looks struct {
	record func(audit.Record)

	mu   sync.Mutex
	seen map[look]*looked
}

// look is what makes one look like another.
type look struct {
	actor      string
	method     Method
	permission string
	on         policy.Ref
	by         *policy.Policy // the first that permits it; nil: none is named
}

// looked is how often, beside what has been recorded.
type looked struct {
	as    audit.Record
	times int
	since time.Time
}

// maxLooks bounds how many kinds are counted at a time.
const maxLooks = 1024

// NewLooks returns an empty count. What is recorded goes to record, which must
// not block; [audit.Queue] has one.
func NewLooks(record func(audit.Record)) *Looks {
	return &Looks{record: record, seen: make(map[look]*looked)}
}

// add counts that c may do what q asks for.
func (l *Looks) add(ctx context.Context, q *question, c Caller) {
	key := look{actor: c.Name, method: c.Method, permission: q.permission, on: q.resource.Ref}
	if len(q.decision.Policies) > 0 {
		key.by = q.decision.Policies[0]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.seen[key]; one != nil {
		if one.times++; one.times == 1 {
			one.since = time.Now()
		}
		return
	}
	if len(l.seen) >= maxLooks {
		l.flush()
		clear(l.seen)
	}
	r := decision(q.permission, c, audit.Success, "permitted")
	q.describe(ctx, &r)
	l.seen[key] = &looked{as: r}
	l.record(r.Within(ctx))
}

// Flush records what was counted since the last time. What nobody has asked for
// since then is forgotten: the next time is a record of its own.
func (l *Looks) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

// flush is Flush; l.mu is held.
func (l *Looks) flush() {
	for key, one := range l.seen {
		if one.times == 0 {
			delete(l.seen, key)
			continue
		}
		r := one.as
		r.Attributes = map[string]string{"times": strconv.Itoa(one.times), "since": one.since.UTC().Format(time.RFC3339Nano)}
		for k, v := range one.as.Attributes {
			if k != "pid" { // that of the first
				r.Attributes[k] = v
			}
		}
		one.times = 0
		l.record(r)
	}
}
