package trace

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Span is a piece of work in a trace. All methods may be called on nil, which
// is what [Start] returns where nothing is traced. Whoever begins one ends it.
type Span struct {
	tracer *Tracer
	span   oteltrace.Span
}

type spanKey struct{}

// Kind says on which side of a call a span is.
type Kind = oteltrace.SpanKind

// The kinds.
const (
	Internal = oteltrace.SpanKindInternal
	Server   = oteltrace.SpanKindServer
	Client   = oteltrace.SpanKindClient
)

// Start begins a span beneath the one in ctx and returns a context in which it
// is the span in force. Where nothing is traced it returns ctx and nil.
func Start(ctx context.Context, kind Kind, name string) (context.Context, *Span) {
	parent := From(ctx)
	if parent == nil {
		return ctx, nil
	}
	return parent.tracer.start(ctx, kind, name)
}

// From returns the span in force, or nil.
func From(ctx context.Context) *Span {
	s, _ := ctx.Value(spanKey{}).(*Span)
	return s
}

// Follow returns ctx with the span in force in from: for work that outlives the
// call that began it and still belongs to its trace.
func Follow(ctx, from context.Context) context.Context {
	s := From(from)
	if s == nil {
		return ctx
	}
	return s.in(ctx)
}

func (s *Span) in(ctx context.Context) context.Context {
	return context.WithValue(oteltrace.ContextWithSpan(ctx, s.span), spanKey{}, s)
}

// Recorded says whether the span will be exported: what is costly to find out
// need only be set then.
func (s *Span) Recorded() bool { return s != nil && s.span.IsRecording() }

// Set says something about the work. It is not for secrets.
func (s *Span) Set(key, value string) {
	if s != nil {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// SetInt is Set for a number.
func (s *Span) SetInt(key string, value int) {
	if s != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// End ends the span; err is what the work failed with, or nil.
func (s *Span) End(err error) {
	if s == nil {
		return
	}
	if err != nil && s.span.IsRecording() {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// TraceID names the trace in 32 hexadecimal digits; empty for nil.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Parent is the span as the W3C Trace Context of a call that it makes; empty
// for nil.
func (s *Span) Parent() string {
	if s == nil {
		return ""
	}
	c := s.span.SpanContext()
	flags := "00"
	if c.IsSampled() {
		flags = "01"
	}
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + flags
}
