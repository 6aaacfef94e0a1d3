package trace

import (
	"strings"
	"time"
	"unicode"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Foreign is a span that another process made in the trace of a call to it. It
// is an untrusted program's word.
type Foreign struct {
	ID, Parent string // 16 hexadecimal digits
	Name       string
	Start, End time.Time
	Failed     bool
	Error      string
	Attributes map[string]string
}

// Adopt exports what the process that s called says of the call, as spans of
// the service. A span can only be beneath s: one that names another parent, or
// an id that is none or taken, is left out, and the times are kept within the
// call. It returns how many were taken.
func (s *Span) Adopt(service string, began time.Time, spans []Foreign) int {
	if !s.Recorded() {
		return 0
	}
	call := s.span.SpanContext()
	owner := resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.namespace", "sop"))
	known := map[oteltrace.SpanID]bool{call.SpanID(): true}
	ids := make([]oteltrace.SpanID, len(spans))
	for i, f := range spans {
		if id, err := oteltrace.SpanIDFromHex(f.ID); err == nil && !known[id] {
			known[id], ids[i] = true, id
		}
	}
	taken := 0
	now := time.Now()
	for i, f := range spans {
		parent, err := oteltrace.SpanIDFromHex(f.Parent)
		if !ids[i].IsValid() || err != nil || !known[parent] || parent == ids[i] {
			continue
		}
		s.tracer.batch.OnEnd(&foreign{
			Foreign: f, owner: owner, context: call.WithSpanID(ids[i]), parent: call.WithSpanID(parent).WithRemote(parent == call.SpanID()),
			start: within(f.Start, began, now), end: within(f.End, began, now),
		})
		taken++
	}
	return taken
}

func within(t, low, high time.Time) time.Time {
	switch {
	case t.Before(low):
		return low
	case t.After(high):
		return high
	}
	return t
}

// foreign is a Foreign as the exporter reads it.
type foreign struct {
	sdktrace.ReadOnlySpan // nil: every method that is called is below
	Foreign
	owner           *resource.Resource
	context, parent oteltrace.SpanContext
	start, end      time.Time
}

func (f *foreign) Name() string                       { return plain(f.Foreign.Name) }
func (f *foreign) SpanContext() oteltrace.SpanContext { return f.context }
func (f *foreign) Parent() oteltrace.SpanContext      { return f.parent }
func (f *foreign) SpanKind() oteltrace.SpanKind       { return f.kind() }
func (f *foreign) StartTime() time.Time               { return f.start }
func (f *foreign) EndTime() time.Time                 { return f.end }
func (f *foreign) Links() []sdktrace.Link             { return nil }
func (f *foreign) Events() []sdktrace.Event           { return nil }
func (f *foreign) Resource() *resource.Resource       { return f.owner }
func (f *foreign) InstrumentationScope() instrumentation.Scope {
	return instrumentation.Scope{Name: scope + "/sdk"}
}
func (f *foreign) DroppedAttributes() int { return 0 }
func (f *foreign) DroppedLinks() int      { return 0 }
func (f *foreign) DroppedEvents() int     { return 0 }
func (f *foreign) ChildSpanCount() int    { return 0 }

func (f *foreign) kind() oteltrace.SpanKind {
	if f.parent.IsRemote() {
		return oteltrace.SpanKindServer
	}
	return oteltrace.SpanKindInternal
}

// Attributes implements [sdktrace.ReadOnlySpan].
func (f *foreign) Attributes() []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(f.Foreign.Attributes))
	for key, value := range f.Foreign.Attributes {
		out = append(out, attribute.String(plain(key), plain(value)))
	}
	return out
}

// Status implements [sdktrace.ReadOnlySpan].
func (f *foreign) Status() sdktrace.Status {
	if !f.Failed {
		return sdktrace.Status{}
	}
	return sdktrace.Status{Code: codes.Error, Description: plain(f.Error)}
}

// plain leaves out what is no text.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
