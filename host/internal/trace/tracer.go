package trace

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Bounds of what waits to be exported and of how long it may take. A span for
// which there is no room is dropped: nothing waits for the collector.
const (
	queueSize     = 2048
	batchSize     = 512
	exportTimeout = 10 * time.Second
	retryFor      = 30 * time.Second
)

// Options say where spans go.
type Options struct {
	// Endpoint is the base URL of an OTLP collector that speaks HTTP, such as
	// "http://127.0.0.1:4318"; /v1/traces is added to its path.
	Endpoint string
	// Ratio of the traces that are recorded, from 0 to 1. A trace that a caller
	// has begun is recorded if the caller says so.
	Ratio float64
	// Headers go with every export; their values may be secrets.
	Headers map[string]string
	// Version of this build.
	Version string
	// Every is how often spans are sent; 0 means 5 seconds.
	Every time.Duration
	// Counts counts the spans, with those of other tracers that were given it; it may
	// be nil.
	Counts *Counts
	// OnError is told why spans could not be exported, at most once a minute.
	OnError func(err error, since int)
}

// Tracer begins traces. A nil one begins none. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	batch    sdktrace.SpanProcessor
	exporter *exporter
	tracer   oteltrace.Tracer
}

// New returns a tracer. Whoever makes it closes it.
func New(ctx context.Context, opt Options) (*Tracer, error) {
	if opt.Every <= 0 {
		opt.Every = 5 * time.Second
	}
	if opt.Headers == nil {
		opt.Headers = map[string]string{} // and not those of OTEL_EXPORTER_OTLP_HEADERS
	}
	client, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(tracesURL(opt.Endpoint)), otlptracehttp.WithHeaders(opt.Headers),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression), otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: retryFor / 3, MaxElapsedTime: retryFor}),
	)
	if err != nil {
		return nil, fmt.Errorf("trace exporter: %w", err)
	}
	t := &Tracer{exporter: newExporter(client, opt.Counts, opt.OnError)}
	t.batch = sdktrace.NewBatchSpanProcessor(t.exporter,
		sdktrace.WithMaxQueueSize(queueSize), sdktrace.WithMaxExportBatchSize(batchSize),
		sdktrace.WithBatchTimeout(opt.Every), sdktrace.WithExportTimeout(retryFor+exportTimeout))
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(t.batch),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(opt.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "sop"), attribute.String("service.version", opt.Version))),
	)
	t.tracer = t.provider.Tracer(scope)
	return t, nil
}

// scope names who made the spans.
const scope = "github.com/sop-host/sop"

// tracesURL is where a collector takes traces.
func tracesURL(endpoint string) string {
	const path = "/v1/traces"
	endpoint = strings.TrimRight(endpoint, "/")
	if strings.HasSuffix(endpoint, path) {
		return endpoint
	}
	return endpoint + path
}

// Begin begins a span for work that enters the host, in the trace that the
// header of the request names (W3C Trace Context), or in a new one; header may
// be nil.
func (t *Tracer) Begin(ctx context.Context, kind Kind, name string, header http.Header) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
	return t.start(ctx, kind, name)
}

func (t *Tracer) start(ctx context.Context, kind Kind, name string) (context.Context, *Span) {
	ctx, span := t.tracer.Start(ctx, name, oteltrace.WithSpanKind(kind))
	s := &Span{tracer: t, span: span}
	return context.WithValue(ctx, spanKey{}, s), s
}

// Close sends what waits, until ctx is done, and ends. It may be called again,
// and on nil.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	err := t.provider.Shutdown(ctx)
	t.exporter.stop() // what is still under way
	if err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}
