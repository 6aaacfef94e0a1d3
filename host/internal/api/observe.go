package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/trace"
)

// Observers are whom the server tells what happens, and asks how things stand.
type Observers struct {
	// Meter counts calls; nil: they are not counted.
	Meter Meter
	// Metrics answers GET /metrics, to callers with the permission metrics.read.
	Metrics http.Handler
	// Tracer makes the spans of calls; it, and what it returns, may be nil.
	Tracer func() *trace.Tracer
	// Health says how the host stands.
	Health Health
	// Fact records what nobody waits for, and must not block; nil: nothing does.
	Fact func(audit.Record)
}

// Meter counts connections, and calls of the methods that are served. It must not block.
type Meter interface {
	CallStarted(method string)
	// CallEnded is told the name of the code: "ok", "not_found" …
	CallEnded(method, code string, took time.Duration)
	// A way is "socket" or "tcp".
	ConnectionOpened(way string)
	ConnectionClosed(way string)
	ConnectionRefused(way string)
}

// permissionMetrics is what reading /metrics takes.
const permissionMetrics = "metrics.read"

// Observe makes the server tell o and serve what it knows: the metrics, whether
// the host is ready, and grpc.health.v1. Call it before Serve, once.
func (s *Server) Observe(o Observers) {
	s.observer.Observers = o
	s.mux.HandleFunc("GET /metrics", s.door.permitted(permissionMetrics, o.Metrics))
	serveHealth(s.mux, s.door, o.Health)
}

// permitted serves h to callers who may do what permission names. A refusal is
// what a method of the API would answer in JSON.
func (d *door) permitted(permission string, h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := d.nexus.Authorize(r.Context(), permission); err != nil {
			writeError(w, err)
			return
		}
		h.ServeHTTP(w, r)
	}
}

// writeError answers with an error in the form that Connect gives it in JSON,
// whatever was asked for: code, message and details.
func writeError(w http.ResponseWriter, err error) {
	if connect.CodeOf(wireError(err)) == connect.CodeUnauthenticated {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	asked := &http.Request{Method: http.MethodPost, Header: http.Header{"Content-Type": {"application/json"}}}
	_ = connect.NewErrorWriter().Write(w, asked, wireError(err)) // who went away is not told
}

// writeJSON answers with v, which always marshals. A caller who has gone does
// not mind that it cannot be written.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// observer counts calls and begins their spans. It stands before the door, so
// that refusals are seen too.
type observer struct{ Observers }

// observed is one call under way.
type observed struct {
	procedure string
	begun     time.Time
	span      *trace.Span
}

func (o *observer) begin(ctx context.Context, spec connect.Spec, header http.Header) (context.Context, observed) {
	c := observed{procedure: strings.TrimPrefix(spec.Procedure, "/"), begun: time.Now()}
	if o.Tracer != nil {
		ctx, c.span = o.Tracer().Begin(ctx, trace.Server, c.procedure, header)
		ctx = withTrace(ctx)
		c.span.Set("rpc.method", c.procedure)
	}
	if o.Meter != nil {
		o.Meter.CallStarted(c.procedure)
	}
	return ctx, c
}

func (o *observer) end(c observed, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	if o.Meter != nil {
		o.Meter.CallEnded(c.procedure, code, time.Since(c.begun))
	}
	c.span.Set("rpc.response.status_code", code)
	c.span.End(err)
}

// connection counts one that was let in, or not.
func (o *observer) connection(way string, entered bool) {
	switch {
	case o.Meter == nil:
	case entered:
		o.Meter.ConnectionOpened(way)
	default:
		o.Meter.ConnectionRefused(way)
	}
}

func (o *observer) connectionClosed(way string) {
	if o.Meter != nil {
		o.Meter.ConnectionClosed(way)
	}
}

// tooMany records that connections were closed, the last of them from a source.
func (o *observer) tooMany(way, source string, refused int) {
	if o.Fact == nil {
		return
	}
	r := overLimit(nexus.Caller{}, "TOO_MANY_CONNECTIONS", source, refused)
	r.Attributes["way"] = way
	o.Fact(r)
}

// errAborted is what became of a call that did not return.
var errAborted = connect.NewError(connect.CodeInternal, errors.New("the call was aborted"))

// WrapUnary implements [connect.Interceptor].
func (o *observer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (resp connect.AnyResponse, err error) {
		ctx, call := o.begin(ctx, req.Spec(), req.Header())
		err = errAborted
		defer func() { o.end(call, err) }()
		resp, err = next(ctx, req)
		return resp, err
	}
}

// WrapStreamingClient implements [connect.Interceptor]; the server has no clients.
func (o *observer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements [connect.Interceptor].
func (o *observer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		ctx, call := o.begin(ctx, conn.Spec(), conn.RequestHeader())
		err = errAborted
		defer func() { o.end(call, err) }()
		err = next(ctx, conn)
		return err
	}
}
