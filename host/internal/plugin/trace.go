package plugin

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/sop-host/sop/host/internal/trace"
	sdktrace "github.com/sop-host/sop/sdk/trace"
)

// callSpan is the span of a call to a plugin. A nil one, where nothing is
// traced, does nothing.
type callSpan struct {
	span  *trace.Span
	id    string
	began time.Time
}

// startSpan begins the span of a call and tells the plugin of it.
func startSpan(ctx context.Context, id, method string) (context.Context, *callSpan) {
	if trace.From(ctx) == nil {
		return ctx, nil
	}
	ctx, span := trace.Start(ctx, trace.Client, "plugin "+id+" "+method[strings.LastIndexByte(method, '/')+1:])
	span.Set("rpc.system", "grpc")
	span.Set("rpc.method", strings.TrimPrefix(method, "/"))
	span.Set("sop.plugin", id)
	return metadata.AppendToOutgoingContext(ctx, sdktrace.Header, span.Parent()), &callSpan{span: span, id: id, began: time.Now()}
}

// end ends the span, and takes in what the plugin says of its part.
func (s *callSpan) end(err error, trailer metadata.MD) {
	if s == nil {
		return
	}
	s.adopt(trailer)
	s.span.End(err)
}

func (s *callSpan) adopt(trailer metadata.MD) {
	said := trailer.Get(sdktrace.Trailer)
	if len(said) != 1 || !s.span.Recorded() {
		return
	}
	report, err := sdktrace.ParseReport(said[0])
	if err != nil {
		s.span.Set("sop.plugin.spans", err.Error())
		return
	}
	spans := make([]trace.Foreign, len(report.Spans))
	for i, r := range report.Spans {
		spans[i] = trace.Foreign{
			ID: r.ID, Parent: r.Parent, Name: r.Name, Start: time.Unix(0, r.Start), End: time.Unix(0, r.End),
			Failed: r.Failed, Error: r.Error, Attributes: r.Attributes,
		}
	}
	if left := len(spans) - s.span.Adopt(s.id, s.began, spans) + report.Dropped; left > 0 {
		s.span.SetInt("sop.plugin.spans_left_out", left)
	}
}
