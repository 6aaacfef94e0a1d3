package startup

import (
	"context"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/trace"
)

// traceGrace is how long the last spans may take to be sent.
const traceGrace = 2 * time.Second

// checkTraces says what keeps spans from being exported as configured.
func checkTraces(cfg *config.Config) config.Diagnostics {
	var diags config.Diagnostics
	for header, variable := range cfg.Telemetry.Traces.HeadersEnv {
		if _, set := os.LookupEnv(variable); !set {
			diags = append(diags, cfg.Problem(cfg.Telemetry.Traces.Source, fmt.Sprintf("There is no value for the header %s", header),
				fmt.Sprintf("The environment variable %s is not set. Set it for the host, or leave the header out.", variable)))
		}
	}
	return diags
}

// startTraces begins to export spans, if the configuration says where to; what
// it returns ends that.
func (h *host) startTraces(ctx context.Context, cfg *config.Config) func() error {
	h.tracer.Store(h.newTracer(ctx, cfg.Telemetry.Traces))
	return func() error {
		h.closeTracer(h.tracer.Swap(nil))
		return nil
	}
}

// takeTraces puts another configuration into effect. Spans under way still go
// where they went.
func (h *host) takeTraces(ctx context.Context, old, next *config.Config) {
	was, is := old.Telemetry.Traces, next.Telemetry.Traces
	if was.Endpoint == is.Endpoint && was.SampleRatio == is.SampleRatio && maps.Equal(was.HeadersEnv, is.HeadersEnv) {
		return
	}
	h.closeTracer(h.tracer.Swap(h.newTracer(ctx, is)))
}

// newTracer returns nil where traces are off. That spans cannot be exported
// keeps no host from its work.
func (h *host) newTracer(ctx context.Context, cfg config.Traces) *trace.Tracer {
	if cfg.Endpoint == "" {
		return nil
	}
	headers := make(map[string]string)
	for header, variable := range cfg.HeadersEnv {
		headers[header] = os.Getenv(variable)
	}
	logger := h.logger.Named("trace")
	t, err := trace.New(context.WithoutCancel(ctx), trace.Options{
		Endpoint: cfg.Endpoint, Ratio: cfg.SampleRatio, Headers: headers, Version: h.opt.Version, Every: h.opt.traceEvery, Counts: &h.spans,
		OnError: func(err error, since int) {
			logger.Warn("spans could not be exported", "endpoint", cfg.Endpoint, "error", err, "failures", since)
		},
	})
	if err != nil {
		logger.Error("traces are off", "endpoint", cfg.Endpoint, "error", err)
		return nil
	}
	return t
}

func (h *host) closeTracer(t *trace.Tracer) {
	ctx, cancel := context.WithTimeout(context.Background(), traceGrace)
	defer cancel()
	if err := t.Close(ctx); err != nil {
		h.logger.Warn("spans were lost", "error", err)
	}
}

// traceScan begins the span of a scan: in the trace of the call that asked for
// it, or in one of its own.
func (w *workspaces) traceScan(ctx context.Context, name string) (context.Context, *trace.Span) {
	var span *trace.Span
	if trace.From(ctx) != nil {
		ctx, span = trace.Start(ctx, trace.Internal, "scan")
	} else if w.tracer != nil {
		ctx, span = w.tracer().Begin(ctx, trace.Internal, "scan", nil)
	}
	if span == nil {
		return ctx, nil
	}
	span.Set("sop.workspace", name)
	return audit.WithOrigin(ctx, audit.Origin{TraceID: span.TraceID()}), span
}
