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
	onError func(err error, since int)
	ctx     context.Context //nolint:containedctx // the exporter's own life; stop ends it
	stop    context.CancelFunc
	counts  *Counts

	mu       sync.Mutex
	reported time.Time
	silent   int // failures since
}

// Counts says how many spans were exported and how many could not be. The zero value
// has counted none; it is safe for concurrent use.
type Counts struct{ exported, failed atomic.Int64 }

// Exported is how many spans a collector has taken.
func (c *Counts) Exported() int64 { return c.exported.Load() }

// Failed is how many spans no collector could be given.
func (c *Counts) Failed() int64 { return c.failed.Load() }

func newExporter(to sdktrace.SpanExporter, counts *Counts, onError func(error, int)) *exporter {
	if counts == nil {
		counts = new(Counts)
	}
	if onError == nil {
		onError = func(error, int) {}
	}
	ctx, stop := context.WithCancel(context.Background())
	return &exporter{SpanExporter: to, onError: onError, ctx: ctx, stop: stop, counts: counts}
}

// ExportSpans implements [sdktrace.SpanExporter]. It returns no error: it has
// been dealt with.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.counts.failed.Add(int64(len(spans)))
		e.report(err)
		return nil
	}
	e.counts.exported.Add(int64(len(spans)))
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
