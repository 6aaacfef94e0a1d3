package plugin

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/sop-host/sop/sdk"
)

// Conn is a connection to a configured plugin that outlives its generations:
// each call goes to the generation in service, under the plugin's deadline, and
// is counted. While a plugin restarts, calls wait for it until their deadline.
// Errors are *sdk.Error. It implements [grpc.ClientConnInterface]; make a
// client from it with the NewClient of the plugin's kind.
type Conn struct {
	id   string
	find func() (lane, error)
}

// lane leads a call to a generation.
type lane interface {
	// acquire takes part in the generation; the caller releases it.
	acquire(ctx context.Context) (*generation, error)
	// callTimeout bounds each call.
	callTimeout() time.Duration
	metered() *meter
}

// meter counts the calls of a unit.
type meter struct {
	calls    atomic.Int64
	failures atomic.Int64
	busy     atomic.Int64 // nanoseconds, summed over calls
}

func (m *meter) observe(start time.Time, err error) {
	m.calls.Add(1)
	m.busy.Add(int64(time.Since(start)))
	if err != nil {
		m.failures.Add(1)
	}
}

// Invoke implements [grpc.ClientConnInterface].
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	u, err := c.find()
	if err != nil {
		return err
	}
	start := time.Now()
	tracedCtx, span := startSpan(ctx, c.id, method)
	var trailer metadata.MD
	if span != nil {
		opts = append(slices.Clip(opts), grpc.Trailer(&trailer))
	}
	callCtx, cancel := within(tracedCtx, u.callTimeout())
	defer cancel()
	g, err := u.acquire(callCtx)
	if err == nil {
		err = g.conn.Invoke(callCtx, method, args, reply, opts...)
		if err != nil {
			err = callError(ctx, g, method, err)
		}
		g.release()
	}
	u.metered().observe(start, err)
	span.end(err, trailer)
	return err
}

// within is [context.WithTimeout] for what is over when the function that asks for it
// returns: a context that ends earlier by itself is as good.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= limit {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}

// NewStream implements [grpc.ClientConnInterface]. The deadline covers the
// stream until its end, which is when RecvMsg fails (with io.EOF or otherwise)
// or ctx is done.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	u, err := c.find()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	tracedCtx, span := startSpan(ctx, c.id, method)
	callCtx, cancel := context.WithTimeout(tracedCtx, u.callTimeout()) // its end ends the stream
	failed := func(err error) (grpc.ClientStream, error) {
		cancel()
		u.metered().observe(start, err)
		span.end(err, nil)
		return nil, err
	}
	g, err := u.acquire(callCtx)
	if err != nil {
		return failed(err)
	}
	stream, err := g.conn.NewStream(callCtx, desc, method, opts...)
	if err != nil {
		err = callError(ctx, g, method, err)
		g.release()
		return failed(err)
	}
	s := &clientStream{ClientStream: stream, caller: ctx, generation: g, method: method, serverStreams: desc.ServerStreams}
	s.end = func(err error, trailer metadata.MD) {
		s.once.Do(func() {
			s.unhook()
			g.release()
			cancel()
			u.metered().observe(start, err)
			span.end(err, trailer)
		})
	}
	// A caller that abandons the stream ends its context; so does the deadline.
	hooked := make(chan struct{})
	stop := context.AfterFunc(callCtx, func() {
		<-hooked
		s.end(callCtx.Err(), nil)
	})
	s.unhook = func() { stop() }
	close(hooked)
	return s, nil
}

// clientStream ends the call when the stream has ended.
type clientStream struct {
	grpc.ClientStream
	caller        context.Context //nolint:containedctx // tells the caller's cancel from the plugin's deadline
	generation    *generation
	method        string
	serverStreams bool
	once          sync.Once
	end           func(error, metadata.MD)
	unhook        func()
}

// SendMsg implements [grpc.ClientStream]. After io.EOF the cause comes from RecvMsg.
func (s *clientStream) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	err = callError(s.caller, s.generation, s.method, err)
	s.end(err, nil)
	return err
}

// RecvMsg implements [grpc.ClientStream].
func (s *clientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch {
	case err == nil && s.serverStreams:
		return nil
	case err == nil || errors.Is(err, io.EOF):
		s.end(nil, s.Trailer())
		return err
	}
	trailer := s.Trailer()
	err = callError(s.caller, s.generation, s.method, err)
	s.end(err, trailer)
	return err
}

// exitNotice is how long a broken connection or the end of the output may
// precede the news that the process has exited.
const exitNotice = time.Second

// clockSkew is how much before ours the plugin's clock may strike.
const clockSkew = 100 * time.Millisecond

// outOfTime says whether the caller has ended the call, or its own deadline is
// what the plugin keeps.
func outOfTime(caller context.Context) bool {
	deadline, ok := caller.Deadline()
	return caller.Err() != nil || ok && time.Until(deadline) < clockSkew
}

// callError says what a failed call means. caller is the context before the
// plugin's deadline was added.
func callError(caller context.Context, g *generation, method string, err error) error {
	e := *sdk.FromError(err)
	e.Message = clip(printable(e.Message))
	id := g.spec.ID()
	switch {
	case e.Reason != "":
	case isClosed(g.runner.exited) && caller.Err() == nil, e.Code == codes.Unavailable && waitClosed(g.runner.exited, exitNotice):
		if oom := g.runner.ranOutOfMemory(); oom != nil {
			return oom
		}
		e.Reason, e.Retryable = ReasonCrashed, true
		e.Message = "plugin " + id + " ended during the call: " + g.runner.exitCause()
		e.Remedy = "see the plugin's log for the cause; it is being restarted"
	case e.Code == codes.DeadlineExceeded && !outOfTime(caller):
		e.Reason, e.Retryable = ReasonDeadline, true
		e.Message = "plugin " + id + " did not answer " + method + " within " + g.spec.CallTimeout.String()
		e.Remedy = "raise the plugin's call_timeout if the work needs longer; if it hangs, see its log and run `sop plugin restart " + id + "`"
	case e.Code == codes.ResourceExhausted:
		e.Reason = ReasonReplyTooLarge
		e.Message = "plugin " + id + ": " + e.Message
		e.Remedy = "a message from a plugin may take 16 MiB; let the plugin's author send less at once"
	case e.Code == codes.Unimplemented:
		e.Reason = ReasonNotImplemented
		e.Message = "plugin " + id + " does not implement " + method
		e.Remedy = "install a newer release of the plugin"
	default:
		e.Message = "plugin " + id + ": " + e.Message
		if e.Remedy == "" {
			e.Remedy = "see the plugin's log; if it goes on, report it to the plugin's author"
		}
	}
	return &e
}
