package trace

import (
	"context"

	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Unary is the interceptor that [sdk.Serve] installs for single calls.
//
// [sdk.Serve]: https://pkg.go.dev/github.com/sop-host/sop/sdk#Serve
func Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, span := accept(ctx, info.FullMethod)
	if span == nil {
		return handler(ctx, req)
	}
	resp, err := handler(ctx, req)
	if report, ok := span.report(err); ok {
		_ = grpc.SetTrailer(ctx, report) // fails only without a call
	}
	return resp, err
}

// Stream is the interceptor that [sdk.Serve] installs for streams.
//
// [sdk.Serve]: https://pkg.go.dev/github.com/sop-host/sop/sdk#Serve
func Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, span := accept(stream.Context(), info.FullMethod)
	if span == nil {
		return handler(srv, stream)
	}
	err := handler(srv, &tracedStream{ServerStream: stream, ctx: ctx})
	if report, ok := span.report(err); ok {
		stream.SetTrailer(report)
	}
	return err
}

// tracedStream is a stream with the span in its context.
type tracedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // it is the context of the stream
}

// Context implements [grpc.ServerStream].
func (s *tracedStream) Context() context.Context { return s.ctx }

// accept begins the span of a call that is traced; of any other it returns nil.
func accept(ctx context.Context, method string) (context.Context, *Span) {
	header := metadata.ValueFromIncomingContext(ctx, Header)
	if len(header) != 1 {
		return ctx, nil
	}
	remote, ok := parse(header[0])
	if !ok {
		return ctx, nil
	}
	if !remote.IsSampled() {
		return oteltrace.ContextWithRemoteSpanContext(ctx, remote), nil
	}
	s := newSpan(&call{remote: remote}, method, remote.SpanID().String())
	return s.in(ctx), s
}

// report ends the span of the call and returns what travels back.
func (s *Span) report(err error) (metadata.MD, bool) {
	own, first := s.end(err)
	if !first {
		return nil, false
	}
	text, encodeErr := s.call.close(own).encode()
	if encodeErr != nil {
		return nil, false // a trace is no reason for a call to fail
	}
	return metadata.Pairs(Trailer, text), true
}

// parse reads a traceparent.
func parse(header string) (oteltrace.SpanContext, bool) {
	const length, traceAt, spanAt, flagsAt = 55, 3, 36, 53
	if len(header) < length || header[2] != '-' || header[spanAt-1] != '-' || header[flagsAt-1] != '-' ||
		header[:2] == "ff" || header[:2] == "00" && len(header) > length || len(header) > length && header[length] != '-' {
		return oteltrace.SpanContext{}, false
	}
	traceID, err := oteltrace.TraceIDFromHex(header[traceAt : spanAt-1])
	if err != nil {
		return oteltrace.SpanContext{}, false
	}
	spanID, err := oteltrace.SpanIDFromHex(header[spanAt : flagsAt-1])
	if err != nil {
		return oteltrace.SpanContext{}, false
	}
	flags, ok := digit(header[length-1])
	if _, high := digit(header[flagsAt]); !ok || !high {
		return oteltrace.SpanContext{}, false
	}
	return oteltrace.NewSpanContext(oteltrace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, TraceFlags: oteltrace.TraceFlags(flags) & oteltrace.FlagsSampled, Remote: true,
	}), true
}

// digit returns the value of a lower-case hexadecimal digit.
func digit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
