package api

import (
	"container/list"
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/sdk"
)

// Limits bound what callers can ask of the server.
type Limits struct {
	// RequestsPerSecond and Burst bound the calls of one caller; streams count
	// as one call.
	RequestsPerSecond float64
	Burst             int
	// LimitSystem says that the calls of system agents are bounded too: they
	// could stop the host anyway, and their batches are not held up otherwise.
	LimitSystem bool
	// MaxStreams bounds the streams that one caller has open, system or not.
	MaxStreams int
	// MaxConnections bounds the connections of all callers, those of the socket and
	// those of TCP each; see [entrance].
	MaxConnections int
}

// DefaultLimits are generous for a person and for an agent.
func DefaultLimits() Limits {
	return Limits{RequestsPerSecond: 200, Burst: 400, MaxStreams: 64, MaxConnections: 1024}
}

// Deadlines of calls that wait for nothing but the host, and of those that wait
// for scans, plugins or the whole log.
const (
	callTimeout = time.Minute
	longTimeout = time.Hour
	// pluginTimeout is for what the call_timeout of a plugin, or the limits of a
	// sandbox, bound more tightly.
	pluginTimeout = 24 * time.Hour
)

// timeoutOf is the longest that a call under a permission may take.
func timeoutOf(permission string) time.Duration {
	switch permission {
	case "backup.create", "backup.restore", "patch.rollback", "run.try":
		return pluginTimeout
	case "backup.read", "backup.delete", "backup.prune", "backup.pin":
		return longTimeout
	case "workspace.scan", "plugin.restart", "component.start", "component.stop", "component.restart", "host.reload", "audit.verify", "audit.archive", "protocol.call", "protocol.activate", "protocol.deactivate":
		return longTimeout
	}
	return callTimeout
}

const (
	maxCallers  = 4096 // whose rate is remembered
	reportEvery = 10 * time.Second
)

// limiter holds callers to the limits. It stands before the door, so that a
// flood does not become a flood of records.
type limiter struct {
	limits func() Limits
	audit  nexus.Audit
	now    func() time.Time

	mu      sync.Mutex
	callers map[string]*list.Element // of *usage
	recent  *list.List               // the latest first
}

// usage is what one caller uses.
type usage struct {
	name    string // of [bucketOf]
	bucket  *rate.Limiter
	streams int
	refusals
}

func newLimiter(limits func() Limits, log nexus.Audit) *limiter {
	return &limiter{limits: limits, audit: log, now: time.Now, callers: make(map[string]*list.Element), recent: list.New()}
}

// of returns the usage of a caller. l.mu is held.
func (l *limiter) of(name string, limits Limits) *usage {
	if e := l.callers[name]; e != nil {
		l.recent.MoveToFront(e)
		u, _ := e.Value.(*usage)
		if r := rate.Limit(limits.RequestsPerSecond); u.bucket.Limit() != r || u.bucket.Burst() != limits.Burst {
			u.bucket.SetLimit(r)
			u.bucket.SetBurst(limits.Burst)
		}
		return u
	}
	if l.recent.Len() >= maxCallers {
		l.forget()
	}
	u := &usage{name: name, bucket: rate.NewLimiter(rate.Limit(limits.RequestsPerSecond), limits.Burst)}
	l.callers[name] = l.recent.PushFront(u)
	return u
}

// forget drops whoever called longest ago and has no stream.
func (l *limiter) forget() {
	for e := l.recent.Back(); e != nil; e = e.Prev() {
		if u, _ := e.Value.(*usage); u.streams == 0 {
			delete(l.callers, u.name)
			l.recent.Remove(e)
			return
		}
	}
}

// admit counts a call, or says why it is refused. Whoever is admitted with a
// stream calls release when it ends.
func (l *limiter) admit(ctx context.Context, stream bool) (release func(), err error) {
	c, _ := nexus.CallerFrom(ctx)
	limits, now := l.limits(), l.now()
	l.mu.Lock()
	u := l.of(bucketOf(ctx, c), limits)
	if stream && u.streams >= limits.MaxStreams {
		err = sdk.Errorf(codes.ResourceExhausted, "TOO_MANY_STREAMS", "%s has %d streams open", nameOf(c), u.streams).
			WithRemedy("end one of them first, or raise api.limits.max_streams").RetryIn(time.Second)
	} else if !c.System() || limits.LimitSystem {
		if wait := reserve(u.bucket, now); wait > 0 {
			err = sdk.Errorf(codes.ResourceExhausted, "RATE_LIMITED", "%s calls more often than %v times a second", nameOf(c), limits.RequestsPerSecond).
				WithRemedy("call less often, or raise api.rate_limit").RetryIn(wait)
		}
	}
	if err != nil {
		tell := u.count(&l.mu, now, func(n int) { l.record(ctx, c, err, n) })
		l.mu.Unlock()
		if tell != nil {
			tell()
		}
		return nil, err
	}
	defer l.mu.Unlock()
	if !stream {
		return func() {}, nil
	}
	u.streams++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		u.streams--
	}), nil
}

// open counts the streams of all callers.
func (l *limiter) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.callers {
		u, _ := e.Value.(*usage)
		n += u.streams
	}
	return n
}

// reserve takes one from the bucket, or says how long to wait for one.
func reserve(bucket *rate.Limiter, now time.Time) time.Duration {
	r := bucket.ReserveN(now, 1)
	if !r.OK() {
		return time.Second // a burst of 0 lets nobody in
	}
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// refusals are counted until they are told of. What guards them is the lock of
// whoever counts.
type refusals struct {
	refused int // since they were told of
	told    time.Time
	tell    func(n int) // tells of n refusals, by the last of them
	later   *time.Timer // has the rest told of; nil where there is none
}

// count counts a refusal. It returns what tells of all since the last time, to be
// called without the lock, or nil when that was a short while ago: they are told of
// when it is time, whether or not more follow.
func (r *refusals) count(lock sync.Locker, now time.Time, tell func(n int)) func() {
	r.refused++
	r.tell = tell
	wait := reportEvery - now.Sub(r.told)
	if wait <= 0 {
		return r.take(now)
	}
	if r.later == nil {
		r.later = time.AfterFunc(wait, func() {
			lock.Lock()
			rest := r.take(time.Now())
			lock.Unlock()
			if rest != nil {
				rest()
			}
		})
	}
	return nil
}

// take returns what tells of those that were not told of; nil where there are none.
func (r *refusals) take(now time.Time) func() {
	if r.later != nil {
		r.later.Stop()
		r.later = nil
	}
	if r.refused == 0 {
		return nil
	}
	n, tell := r.refused, r.tell
	r.refused, r.told = 0, now
	return func() { tell(n) }
}

// flush tells of all refusals that were not told of yet.
func (l *limiter) flush() {
	l.mu.Lock()
	var all []func()
	for _, e := range l.callers {
		u, _ := e.Value.(*usage)
		if rest := u.take(l.now()); rest != nil {
			all = append(all, rest)
		}
	}
	l.mu.Unlock()
	for _, tell := range all {
		tell()
	}
}

func (l *limiter) record(ctx context.Context, c nexus.Caller, refusal error, n int) {
	if l.audit == nil {
		return
	}
	// The caller is refused whether or not that can be recorded.
	_ = l.audit.Append(context.WithoutCancel(ctx), overLimit(c, sdk.FromError(refusal).Reason, connectionOf(ctx).source, n))
}

// overLimit is the record of n refusals, the last of them of a caller from a source.
func overLimit(c nexus.Caller, reason, source string, n int) audit.Record {
	return audit.Record{
		Actor: nameOf(c), Action: "access.limit", Resource: "api", Outcome: audit.Denied, Reason: reason,
		Attributes: map[string]string{"refused": itoa(n), "source": source},
	}
}

// bucketOf is by what a caller is counted: by its name, or where nobody knows it
// by where it calls from, so that one who floods leaves room for the others.
func bucketOf(ctx context.Context, c nexus.Caller) string {
	if c.Name != "" {
		return c.Name
	}
	return "unauthenticated " + connectionOf(ctx).source // no name has a space
}

func nameOf(c nexus.Caller) string {
	if c.Name == "" {
		return "unauthenticated"
	}
	return c.Name
}

// WrapUnary implements [connect.Interceptor].
func (l *limiter) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if _, err := l.admit(ctx, false); err != nil {
			return nil, wireError(err)
		}
		ctx, cancel := context.WithTimeout(ctx, timeoutOf(permission(req.Spec())))
		defer cancel()
		return next(ctx, req)
	}
}

// WrapStreamingClient implements [connect.Interceptor]; the server has no clients.
func (l *limiter) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements [connect.Interceptor].
func (l *limiter) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		release, err := l.admit(ctx, true)
		if err != nil {
			return wireError(err)
		}
		defer release()
		return next(ctx, conn)
	}
}
