package trace

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"sync"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"
)

// Bounds of what one call reports. What is beyond them is counted and left out.
const (
	maxSpans      = 64
	maxAttributes = 16
	maxText       = 256 // bytes of a name, a value or an error
)

// Span is a part of a call. All methods may be called on nil, which is what
// [Start] returns for a call that is not traced.
type Span struct {
	call   *call
	record Record
	begun  time.Time // with the monotonic clock

	mu    sync.Mutex
	ended bool
}

type spanKey struct{}

// Start begins a span beneath the one in ctx, and returns a context in which it
// is the span in force. The caller ends it before the call ends.
func Start(ctx context.Context, name string) (context.Context, *Span) {
	parent, _ := ctx.Value(spanKey{}).(*Span)
	if parent == nil {
		return ctx, nil
	}
	s := newSpan(parent.call, name, parent.record.ID)
	return s.in(ctx), s
}

func newSpan(c *call, name, parent string) *Span {
	var id [8]byte
	_, _ = rand.Read(id[:]) // does not fail
	now := time.Now()
	return &Span{
		call: c, begun: now,
		record: Record{ID: hex.EncodeToString(id[:]), Parent: parent, Name: clip(name), Start: now.UnixNano()},
	}
}

// in returns a context in which s is in force.
func (s *Span) in(ctx context.Context) context.Context {
	id, err := oteltrace.SpanIDFromHex(s.record.ID)
	if err == nil { // not for the id that is nothing but zeroes
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, s.call.remote.WithSpanID(id))
	}
	return context.WithValue(ctx, spanKey{}, s)
}

// Set says something about what the span stands for. It is not for secrets.
func (s *Span) Set(key, value string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.record.Attributes) >= maxAttributes {
		return
	}
	if s.record.Attributes == nil {
		s.record.Attributes = make(map[string]string)
	}
	s.record.Attributes[clip(key)] = clip(value)
}

// End ends the span; err is what it failed with, or nil. Only the first call
// counts.
func (s *Span) End(err error) {
	if r, first := s.end(err); first {
		s.call.add(r)
	}
}

// end closes the span and returns what there is to tell of it.
func (s *Span) end(err error) (Record, bool) {
	if s == nil {
		return Record{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return Record{}, false
	}
	s.ended = true
	s.record.End = s.record.Start + int64(time.Since(s.begun))
	if err != nil {
		s.record.Failed, s.record.Error = true, clip(err.Error())
	}
	r := s.record
	r.Attributes = maps.Clone(r.Attributes)
	return r, true
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText]
}

// call gathers the spans of one call.
type call struct {
	remote oteltrace.SpanContext // of the host

	mu      sync.Mutex
	spans   []Record
	dropped int
	closed  bool
}

func (c *call) add(r Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed: // the answer has gone
	case len(c.spans) >= maxSpans-1:
		c.dropped++
	default:
		c.spans = append(c.spans, r)
	}
}

// close returns what the call has to report, its own span first.
func (c *call) close(own Record) Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return Report{Spans: append([]Record{own}, c.spans...), Dropped: c.dropped}
}
