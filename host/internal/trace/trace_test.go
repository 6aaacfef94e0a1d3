package trace

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collect returns a tracer that records everything, and what ends it and
// returns the spans by name.
func collect(t *testing.T) (*Tracer, func() map[string]*tracev1.Span) {
	t.Helper()
	var mu sync.Mutex
	spans := make(map[string]*tracev1.Span)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var req collectorv1.ExportTraceServiceRequest
		z, err := gzip.NewReader(r.Body)
		if err == nil {
			var body []byte
			if body, err = io.ReadAll(z); err == nil {
				err = proto.Unmarshal(body, &req)
			}
		}
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					spans[s.GetName()] = s
				}
			}
		}
	}))
	var counts Counts
	tracer, err := New(t.Context(), Options{Endpoint: server.URL + "/", Ratio: 1, Version: "test", Every: time.Hour, Counts: &counts})
	if err != nil {
		t.Fatal(err)
	}
	return tracer, func() map[string]*tracev1.Span {
		if err := tracer.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if counts.Exported() != int64(len(spans)) || counts.Failed() != 0 {
			t.Errorf("counted %d exported, %d failed; there are %d", counts.Exported(), counts.Failed(), len(spans))
		}
		server.Close()
		return spans
	}
}

// What another process says is taken as far as it can be true.
func TestAdopt(t *testing.T) {
	tracer, end := collect(t)
	ctx, call := tracer.Begin(t.Context(), Client, "call", nil)
	began := time.Now()
	own := strings.Split(call.Parent(), "-")[2]
	id := func(c string) string { return strings.Repeat(c, 16) }
	span := func(name, id, parent string) Foreign {
		return Foreign{Name: name, ID: id, Parent: parent, Start: began, End: began}
	}
	early := span("early\x1b[31m\u202e", id("a"), own)
	early.Start, early.End, early.Failed, early.Error = time.Unix(0, 0), began.Add(time.Hour), true, "broken\n"
	early.Attributes = map[string]string{"k\x00": "v\n"}
	taken := call.Adopt("detector.docs", began, []Foreign{
		early, span("child", id("b"), id("a")), span("foreign parent", id("c"), id("f")), span("no id", "xyz", own),
		span("zero", id("0"), own), span("taken", id("b"), own), span("itself", id("d"), id("d")), span("the call's", own, own),
	})
	call.End(nil)
	if _, s := Start(ctx, Internal, "after"); s != nil {
		s.End(errors.New("failed"))
	}
	spans := end()
	if taken != 2 || len(spans) != 4 {
		t.Errorf("%d taken; %v", taken, spans)
	}
	got := spans["early[31m"]
	if got == nil || got.GetStartTimeUnixNano() < uint64(began.UnixNano()) || got.GetEndTimeUnixNano() > uint64(time.Now().UnixNano()) ||
		got.GetStatus().GetMessage() != "broken" || got.GetAttributes()[0].GetKey() != "k" || got.GetKind() != tracev1.Span_SPAN_KIND_SERVER {
		t.Errorf("early: %v", got)
	}
	if child := spans["child"]; child == nil || !bytes.Equal(child.GetTraceId(), spans["call"].GetTraceId()) || child.GetKind() != tracev1.Span_SPAN_KIND_INTERNAL {
		t.Errorf("child: %v", child)
	}
	if after := spans["after"]; after.GetStatus().GetMessage() != "failed" {
		t.Errorf("after: %v", after)
	}
}

// The caller's trace goes on, whether or not it is recorded.
func TestCallersTrace(t *testing.T) {
	tracer, end := collect(t)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	for _, flags := range []string{"00", "01"} {
		header := http.Header{"Traceparent": {"00-" + trace + "-b7ad6b7169203331-" + flags}}
		ctx, s := tracer.Begin(t.Context(), Server, "call "+flags, header)
		if s.TraceID() != trace || From(ctx) != s || s.Recorded() != (flags == "01") || !strings.HasSuffix(s.Parent(), "-"+flags) {
			t.Errorf("%s: %s, %v", flags, s.Parent(), s.Recorded())
		}
		if s.Adopt("x", time.Now(), []Foreign{{ID: "b7ad6b7169203332", Parent: s.Parent()[36:52]}}) > 0 && flags == "00" {
			t.Error("adopted where nothing is recorded")
		}
		s.End(nil)
	}
	spans := end()
	if spans["call 01"] == nil || spans["call 00"] != nil {
		t.Errorf("recorded: %v", spans)
	}
}

// Where nothing is traced, everything is nothing.
func TestOff(t *testing.T) {
	var off *Tracer
	ctx, s := off.Begin(t.Context(), Server, "x", http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}})
	_, child := Start(Follow(t.Context(), ctx), Internal, "y")
	s.Set("a", "b")
	child.SetInt("a", 1)
	child.End(errors.New("x"))
	if s != nil || child != nil || ctx != t.Context() || s.TraceID() != "" || s.Parent() != "" || s.Recorded() || off.Close(ctx) != nil {
		t.Errorf("%v %v", s, child)
	}
}

// failing is an exporter that fails.
type failing struct{ sdktrace.SpanExporter }

func (failing) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return errors.New("down") }

// Failures are told once a minute, with their number.
func TestFailuresAreToldSparingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []int
		e := newExporter(failing{}, nil, func(_ error, since int) { told = append(told, since) })
		for range 180 {
			if err := e.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 2)); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		if len(told) != 3 || told[0] != 1 || told[1] != 60 || e.counts.Failed() != 360 {
			t.Errorf("told %v, counted %d", told, e.counts.Failed())
		}
	})
}

// A collector that hangs holds the end up no longer than it is given.
func TestCloseKeepsItsDeadline(t *testing.T) {
	t.Cleanup(func() { // what could not be sent in time is given up once the collector answers
		for begin := time.Now(); goleak.Find() != nil && time.Since(begin) < time.Minute; {
		}
	})
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	tracer, err := New(t.Context(), Options{Endpoint: server.URL, Ratio: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * queueSize { // more than there is room for
		_, s := tracer.Begin(t.Context(), Server, "call", nil)
		s.End(nil)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := tracer.Close(ctx); err == nil {
		t.Error("spans were sent to a collector that hangs")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func BenchmarkStartOff(b *testing.B) {
	type key struct{}
	ctx := context.Background()
	for range 8 { // as deep as a call's is
		ctx = context.WithValue(ctx, key{}, 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, s := Start(ctx, Internal, "x")
		s.End(nil)
	}
}

func BenchmarkStartOn(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	tracer, err := New(b.Context(), Options{Endpoint: server.URL, Ratio: 1})
	if err != nil {
		b.Fatal(err)
	}
	ctx, root := tracer.Begin(b.Context(), Server, "call", nil)
	b.ReportAllocs()
	for b.Loop() {
		_, s := Start(ctx, Internal, "x")
		s.End(nil)
	}
	root.End(nil)
	_ = tracer.Close(b.Context())
}
