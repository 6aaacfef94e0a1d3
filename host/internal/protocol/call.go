package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

const (
	maxOperation = 128 // bytes
	// callGrace is how much longer than a call the token lives that came with it.
	callGrace = 10 * time.Second
)

// Call is one operation for a protocol.
type Call struct {
	Protocol, Operation string
	Payload             []byte        // JSON; empty stands for null
	Timeout             time.Duration // 0: the protocol's; it never is longer than that
	Context             map[string]string
	Origin              Origin  // who asks
	Parent              *Parent // the call within which this one is made, or nil
	RequestID           string  // set by the service where empty
	// Take is called when there is a place for the call, and never twice: it takes
	// a use of the caller's token. When it fails the call is not made.
	Take func(ctx context.Context) error
}

// Outcome says what became of a call. It is returned with an error, too.
type Outcome struct {
	RequestID string
	Sent      bool          // it reached the plugin, or may have
	Waited    time.Duration // for a place
	Took      time.Duration // the plugin
	Snapshot  string        // where its payload is kept; empty: it is not
}

// Call makes a call and returns its result, which is JSON.
func (s *Service) Call(ctx context.Context, c *Call) (result []byte, out Outcome, err error) {
	err = s.make(ctx, c, &out, func(ctx context.Context, p *peer, call *pluginv1.Call) error {
		resp, err := p.client.Handle(ctx, &pluginv1.HandleRequest{Call: call})
		if err != nil {
			return err
		}
		result = resp.GetResult()
		return p.checkResult(c.Operation, result)
	})
	if err != nil {
		return nil, out, err
	}
	s.shots.answer(out.Snapshot, result)
	return result, out, nil
}

// Stream makes a call whose result comes in pieces, each of which is JSON.
func (s *Service) Stream(ctx context.Context, c *Call, send func(piece []byte) error) (out Outcome, err error) {
	err = s.make(ctx, c, &out, func(ctx context.Context, p *peer, call *pluginv1.Call) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := p.client.HandleStream(ctx, &pluginv1.HandleStreamRequest{Call: call})
		if err != nil {
			return err
		}
		for {
			resp, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			if err := p.checkResult(c.Operation, resp.GetChunk()); err != nil {
				return err
			}
			if err := send(resp.GetChunk()); err != nil {
				return err
			}
		}
	})
	return out, err
}

// Check says whether a call would be let in, and makes none.
func (s *Service) Check(c *Call) error {
	p, err := s.peer(c.Protocol)
	if err != nil {
		return err
	}
	set := p.set.Load()
	if err := checkCall(c, set); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.want == Inactive && (set.Activation != OnDemand || p.manual) {
		return inactive(p.name)
	}
	return nil
}

// make carries a call through.
func (s *Service) make(ctx context.Context, c *Call, out *Outcome, handle func(context.Context, *peer, *pluginv1.Call) error) error {
	p, err := s.peer(c.Protocol)
	if err != nil {
		return err
	}
	set := p.set.Load()
	if err := checkCall(c, set); err != nil {
		p.denied.Add(1)
		return err
	}
	if c.RequestID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		c.RequestID = id.String()
	}
	out.RequestID = c.RequestID
	f := &flight{limit: set.Timeout}
	if c.Timeout > 0 {
		f.limit = min(f.limit, c.Timeout)
	}
	ctx, f.stop = context.WithTimeout(ctx, f.limit)
	defer f.stop()
	if c.Parent != nil {
		defer context.AfterFunc(c.Parent.call.ctx, func() { f.end(parentEnded()) })()
	}
	if err := p.enterFor(ctx, c, f, out); err != nil {
		p.denied.Add(1)
		return err
	}
	defer p.gate.leave()
	if err := c.Take(ctx); err != nil {
		p.denied.Add(1)
		return err
	}
	err = p.serve(ctx, c, set, out, f, handle)
	if err != nil {
		err = p.explain(ctx, c, f, err)
		p.failures.Add(1)
	}
	return err
}

// flight is a call on its way.
type flight struct {
	limit time.Duration
	stop  context.CancelFunc
	why   atomic.Pointer[sdk.Error] // it was ended by [flight.end]
}

// end ends the call early.
func (f *flight) end(why *sdk.Error) {
	f.why.CompareAndSwap(nil, why)
	f.stop()
}

// enterFor waits for a place.
func (p *peer) enterFor(ctx context.Context, c *Call, f *flight, out *Outcome) error {
	p.need()
	begin := time.Now()
	p.lastCall.Store(begin.UnixNano())
	err := p.gate.enter(ctx)
	out.Waited = time.Since(begin)
	if err == nil || !isEnd(err) {
		return err
	}
	return p.explain(ctx, c, f, err)
}

// serve has the plugin handle the call.
func (p *peer) serve(ctx context.Context, c *Call, set *Settings, out *Outcome, f *flight, handle func(context.Context, *peer, *pluginv1.Call) error) error {
	s := p.service
	p.mu.Lock()
	p.inCall[f] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.inCall, f)
		p.mu.Unlock()
		p.lastCall.Store(time.Now().UnixNano())
	}()
	call := &pluginv1.Call{RequestId: c.RequestID, Operation: c.Operation, Payload: c.Payload, Context: p.contextOf(c)}
	if len(set.Calls) > 0 {
		secret, accessor, end, err := s.opt.Grants.Call(ctx, p.name, operationsOf(set.Calls), set.Timeout+callGrace)
		if err != nil {
			return err
		}
		defer end()
		s.live.add(accessor, &liveCall{ctx: ctx, protocol: p.name, chain: chainOf(c), origin: c.Origin, requestID: c.RequestID, may: set.Calls})
		defer s.live.remove(accessor)
		call.Token = secret
	}
	out.Snapshot = s.keep(set, c)
	out.Sent = true
	p.calls.Add(1)
	begin := time.Now()
	err := handle(ctx, p, call)
	out.Took = time.Since(begin)
	return err
}

// contextOf is what the plugin is told of who asks.
func (*peer) contextOf(c *Call) map[string]string {
	told := make(map[string]string, len(c.Context)+3)
	maps.Copy(told, c.Context)
	told["agent"], told["trust"] = c.Origin.Name, c.Origin.Trust
	if c.Parent != nil {
		told["parent_request"] = c.Parent.call.requestID
		told["caller"] = c.Parent.call.protocol
	}
	return told
}

// checkCall refuses what no protocol is asked.
func checkCall(c *Call, set *Settings) error {
	switch {
	case !isOperation(c.Operation):
		return sdk.Errorf(codes.InvalidArgument, ReasonOperation, "%q cannot be the name of an operation", clip(c.Operation)).
			WithRemedy("give letters, digits and . _ - / only, %d bytes at most", maxOperation).WithField("operation", "")
	case len(c.Payload) > set.MaxPayload:
		return sdk.Errorf(codes.InvalidArgument, ReasonPayload, "the payload has %d bytes; protocol %s takes at most %d", len(c.Payload), set.Name, set.MaxPayload).
			WithRemedy("send less at once, or raise max_payload of the protocol").WithField("payload", "")
	case len(c.Payload) == 0:
		c.Payload = []byte("null")
	case !json.Valid(c.Payload):
		return sdk.Errorf(codes.InvalidArgument, ReasonPayload, "the payload is no JSON").WithRemedy("send one JSON value").WithField("payload", "")
	}
	return nil
}

func isOperation(name string) bool {
	if name == "" || len(name) > maxOperation {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-', c == '/':
		default:
			return false
		}
	}
	return true
}

// checkResult refuses what is no result.
func (p *peer) checkResult(operation string, result []byte) error {
	set := p.set.Load()
	switch {
	case len(result) > set.MaxResult:
		return sdk.Errorf(codes.Internal, ReasonResult, "protocol %s answered %s with %d bytes; at most %d are taken", p.name, clip(operation), len(result), set.MaxResult).
			WithRemedy("have it answer in pieces, or raise max_result of the protocol")
	case !json.Valid(result):
		return sdk.Errorf(codes.Internal, ReasonResult, "protocol %s answered %s with what is no JSON", p.name, clip(operation)).
			WithRemedy("report it to the author of the plugin")
	}
	return nil
}

// explain says what a failure means that the end of a context may have brought.
func (p *peer) explain(ctx context.Context, c *Call, f *flight, err error) error {
	if why := f.why.Load(); why != nil {
		return why
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != StateActive && p.state != StatePassive && p.err != nil {
		e := unready(p.name, p.err)
		e.Retryable = true
		return e
	}
	return late(p.name, c.Operation, f.limit)
}

func parentEnded() *sdk.Error {
	return sdk.Errorf(codes.Canceled, ReasonCallEnded, "the call within which this one was made has ended").
		WithRemedy("call others only while a call is being served")
}

// operationsOf are the operations in a list such as "scp.recall".
func operationsOf(calls []string) []string {
	var out []string
	for _, c := range calls {
		if _, operation, found := cutDot(c); found {
			out = append(out, operation)
		}
	}
	return out
}
