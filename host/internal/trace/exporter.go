package trace

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// reportEvery is how often it is said that spans cannot be exported.
const reportEvery = time.Minute

// exporter counts what is exported, says why it is not, and can be stopped in
// the middle. It keeps errors from OpenTelemetry's global handler.
type exporter struct {
	sdktrace.SpanExporter
	onError  func(err error, since int)
	ctx      context.Context //nolint:containedctx // the exporter's own life; stop ends it
	stop     context.CancelFunc
	exported atomic.Int64
	failed   atomic.Int64

	mu       sync.Mutex
	reported time.Time
	silent   int // failures since
}

func newExporter(to sdktrace.SpanExporter, onError func(error, int)) *exporter {
	if onError == nil {
		onError = func(error, int) {}
	}
	ctx, stop := context.WithCancel(context.Background())
	return &exporter{SpanExporter: to, onError: onError, ctx: ctx, stop: stop}
}

// ExportSpans implements [sdktrace.SpanExporter]. It returns no error: it has
// been dealt with.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.failed.Add(int64(len(spans)))
		e.report(err)
		return nil
	}
	e.exported.Add(int64(len(spans)))
	return nil
}

func (e *exporter) report(err error) {
	e.mu.Lock()
	e.silent++
	due := e.reported.IsZero() || time.Since(e.reported) >= reportEvery
	n := e.silent
	if due {
		e.reported, e.silent = time.Now(), 0
	}
	e.mu.Unlock()
	if due {
		e.onError(err, n)
	}
}
