package sdk

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// overdue knows the calls under way, and has the plugin's health say so when one
// goes on for longer than a limit after it was cancelled.
type overdue struct {
	limit time.Duration

	mu    sync.Mutex
	calls map[*underWay]bool
}

// underWay is one call.
type underWay struct {
	method    string
	done      <-chan struct{} // of its context
	cancelled time.Time       // when that was noticed; zero: not yet
}

// enter notes a call until leave is called.
func (o *overdue) enter(ctx context.Context, method string) (leave func()) {
	c := &underWay{method: method, done: ctx.Done()}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.calls == nil {
		o.calls = make(map[*underWay]bool)
	}
	o.calls[c] = true
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.calls, c)
	}
}

// check returns an error when a call is overdue. Time counts from the first check
// after it was cancelled: the host checks every few seconds.
func (o *overdue) check() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for c := range o.calls {
		select {
		case <-c.done:
		default:
			continue
		}
		if c.cancelled.IsZero() {
			c.cancelled = now
		}
		if now.Sub(c.cancelled) >= o.limit {
			return Errorf(codes.Unavailable, "CALL_STUCK", "%s goes on, %v after it was cancelled", c.method, o.limit)
		}
	}
	return nil
}

// unary is a gRPC interceptor.
func (o *overdue) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if o.limit <= 0 {
		return handler(ctx, req)
	}
	if info.FullMethod == grpc_health_v1.Health_Check_FullMethodName {
		if err := o.check(); err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}
	defer o.enter(ctx, info.FullMethod)()
	return handler(ctx, req)
}

// stream is a gRPC interceptor.
func (o *overdue) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if o.limit <= 0 {
		return handler(srv, s)
	}
	defer o.enter(s.Context(), info.FullMethod)()
	return handler(srv, s)
}
