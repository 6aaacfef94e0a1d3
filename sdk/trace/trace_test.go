package trace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
)

const header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// health answers with what do makes of the call.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
	do func(ctx context.Context) error
}

func (h *health) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{}, h.do(ctx)
}

func (h *health) Watch(_ *grpc_health_v1.HealthCheckRequest, s grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	return h.do(s.Context())
}

// callWith makes one call, single or a stream, and returns the trailer.
func callWith(t *testing.T, traceparent string, stream bool, do func(ctx context.Context) error) metadata.MD {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(Unary), grpc.ChainStreamInterceptor(Stream))
	grpc_health_v1.RegisterHealthServer(server, &health{do: do})
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	defer served.Wait()
	defer server.Stop()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := t.Context()
	if traceparent != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, Header, traceparent)
	}
	client := grpc_health_v1.NewHealthClient(conn)
	if !stream {
		var trailer metadata.MD
		_, _ = client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailer))
		return trailer
	}
	s, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.Recv()
	return s.Trailer()
}

func TestSpansTravelBack(t *testing.T) {
	for _, stream := range []bool{false, true} {
		trailer := callWith(t, header, stream, func(ctx context.Context) error {
			if c := oteltrace.SpanContextFromContext(ctx); c.TraceID().String() != header[3:35] || c.SpanID().String() == header[36:52] {
				t.Errorf("context: %v", c)
			}
			ctx, outer := Start(ctx, "outer")
			outer.Set("key", "value")
			_, inner := Start(ctx, "inner")
			inner.End(errors.New("broken"))
			inner.End(nil)
			outer.End(nil)
			_, never := Start(ctx, "never ended")
			never.Set("a", "b")
			return errors.New("failed")
		})
		report, err := ParseReport(strings.Join(trailer.Get(Trailer), ","))
		if err != nil || len(report.Spans) != 3 {
			t.Fatalf("%v, %+v", err, report)
		}
		own, inner, outer := report.Spans[0], report.Spans[1], report.Spans[2]
		if own.Parent != header[36:52] || !strings.HasPrefix(own.Name, "/grpc.health.v1.Health/") || !own.Failed || own.End < own.Start {
			t.Errorf("own: %+v", own)
		}
		if outer.Parent != own.ID || inner.Parent != outer.ID || inner.Error != "broken" || outer.Failed || outer.Attributes["key"] != "value" {
			t.Errorf("outer %+v, inner %+v", outer, inner)
		}
	}
}

// A call that is not traced, or not recorded, reports nothing and makes no spans.
func TestNothingWithoutATrace(t *testing.T) {
	for _, tt := range []struct {
		header string
		known  bool
	}{{"", false}, {"nonsense", false}, {header[:53] + "00", true}} {
		trailer := callWith(t, tt.header, false, func(ctx context.Context) error {
			ctx, span := Start(ctx, "x")
			span.Set("a", "b")
			span.End(nil)
			if span != nil || oteltrace.SpanContextFromContext(ctx).IsValid() != tt.known {
				t.Errorf("%q: %v, %v", tt.header, span, oteltrace.SpanContextFromContext(ctx))
			}
			return nil
		})
		if len(trailer.Get(Trailer)) > 0 {
			t.Errorf("%q: %v", tt.header, trailer)
		}
	}
}

// However much there is to tell, the report stays within its bounds, counts
// what it leaves out, and has the call's own span.
func TestReportsAreBounded(t *testing.T) {
	for _, many := range []int{200, 40} {
		trailer := callWith(t, header, false, func(ctx context.Context) error {
			for i := range many {
				_, span := Start(ctx, strings.Repeat("n", 1000))
				for j := range 100 {
					span.Set(fmt.Sprint(i, j), strings.Repeat("\x01", 1000))
				}
				span.End(errors.New(strings.Repeat("e", 1000)))
			}
			return nil
		})
		text := strings.Join(trailer.Get(Trailer), "")
		report, err := ParseReport(text)
		if err != nil || len(text) > MaxReport || len(report.Spans)+report.Dropped != many+1 || report.Spans[0].Parent != header[36:52] {
			t.Errorf("%d: %v, %d bytes, %d spans, %d dropped", many, err, len(text), len(report.Spans), report.Dropped)
		}
	}
}

// The parser takes what OpenTelemetry's takes, and reads the same in it.
func FuzzParse(f *testing.F) {
	f.Add(header)
	f.Add(header[:53] + "00")
	f.Add("01" + header[2:] + "-more")
	f.Add("ff" + header[2:])
	f.Add("00-00000000000000000000000000000000-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parse(text)
		want := oteltrace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": text}))
		if ok && !got.IsValid() {
			t.Errorf("%q: %v", text, got)
		}
		if want.IsValid() && (!ok || got.TraceID() != want.TraceID() || got.SpanID() != want.SpanID() || got.IsSampled() != want.IsSampled()) {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
	})
}

// Whatever a report says, it is read or refused.
func FuzzReport(f *testing.F) {
	f.Add(`{"spans":[{"id":"b7ad6b7169203331","parent":"b7ad6b7169203332","name":"n","start":1,"end":2}]}`)
	f.Add(`{"spans":null,"dropped":-1}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseReport(text)
		if err == nil && (len(r.Spans) > maxSpans || r.Dropped < 0) {
			t.Errorf("%q: %+v", text, r)
		}
	})
}
