package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/protocol"
)

const (
	restartMin = 100 * time.Millisecond
	restartMax = 10 * time.Second
	steady     = 30 * time.Second // after which a program is no longer suspected
)

// peer implements [protocol.Protocol].
type peer struct {
	protocol.Standing
	set    settings
	logger hclog.Logger
	count  counters
	places chan struct{}

	mu      sync.Mutex
	program *program // nil: none runs
	changed chan struct{}
	err     error // of the last start
	stop    context.CancelFunc
	stopped chan struct{}
}

// counters count by name.
type counters struct {
	mu sync.Mutex
	by map[string]int64
}

func (c *counters) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = make(map[string]int64)
	}
	c.by[name]++
}

func (c *counters) all() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.by)
}

// Activate implements [protocol.Protocol]: it starts the program.
func (p *peer) Activate(ctx context.Context, req *pluginv1.ActivateRequest) (*pluginv1.ActivateResponse, error) {
	p.mu.Lock()
	if p.stop == nil {
		keeping, cancel := context.WithCancel(context.Background())
		p.stop, p.stopped, p.changed, p.err = cancel, make(chan struct{}), make(chan struct{}), nil
		go p.keep(keeping, p.stopped)
	}
	p.mu.Unlock()
	if _, err := p.running(ctx, true); err != nil {
		p.end()
		return nil, err
	}
	return &pluginv1.ActivateResponse{Mode: p.Set(req.GetMode())}, nil
}

// Deactivate implements [protocol.Protocol]: it stops the program after its calls.
func (p *peer) Deactivate(ctx context.Context, _ *pluginv1.DeactivateRequest) (*pluginv1.DeactivateResponse, error) {
	err := p.Drain(ctx)
	p.end()
	return &pluginv1.DeactivateResponse{}, err
}

func (p *peer) end() {
	p.mu.Lock()
	stop, stopped := p.stop, p.stopped
	p.stop = nil
	p.mu.Unlock()
	if stop != nil {
		stop()
		<-stopped
	}
}

// keep keeps the program running until ctx is done.
func (p *peer) keep(ctx context.Context, stopped chan<- struct{}) {
	defer close(stopped)
	wait := restartMin
	for ctx.Err() == nil {
		begin := time.Now()
		prog, err := start(&p.set, &p.count, p.logger)
		p.tell(prog, err)
		if err == nil {
			select {
			case <-prog.exited:
				err = prog.err
				p.logger.Error("program ended", "error", err)
			case <-ctx.Done():
				prog.stop()
			}
		}
		if ctx.Err() != nil {
			break
		}
		p.tell(nil, err)
		p.count.add("restarts")
		if time.Since(begin) > steady {
			wait = restartMin
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, restartMax)
	}
	p.tell(nil, errStopped)
}

func (p *peer) tell(prog *program, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.program, p.err = prog, err
	close(p.changed)
	p.changed = make(chan struct{})
}

// running returns the program, and waits for one that is on its way until ctx is
// done; with once, until the first attempt to start it has failed.
func (p *peer) running(ctx context.Context, once bool) (*program, error) {
	for {
		p.mu.Lock()
		prog, changed, err, stop := p.program, p.changed, p.err, p.stop
		p.mu.Unlock()
		switch {
		case prog != nil && !prog.hasEnded():
			return prog, nil
		case stop == nil:
			return nil, notRunning("it is not to run")
		case once && err != nil:
			return nil, notRunning(err.Error())
		}
		select {
		case <-changed:
		case <-ctx.Done():
			why := "it is being started"
			if err != nil {
				why = err.Error()
			}
			return nil, notRunning(why)
		}
	}
}

func notRunning(why string) *sdk.Error {
	e := sdk.Errorf(codes.Unavailable, "PEER_DOWN", "the program does not run: %s", why).WithRemedy("see the log of the plugin")
	e.Retryable = true
	return e
}

// Handle implements [protocol.Protocol]. Of a result that comes in pieces it
// returns the list of them.
func (p *peer) Handle(ctx context.Context, call *pluginv1.Call) ([]byte, error) {
	var pieces [][]byte
	result, err := p.ask(ctx, call, false, func(piece []byte) error {
		pieces = append(pieces, piece)
		return nil
	})
	if err != nil || result != nil {
		return result, err
	}
	return slices.Concat([]byte("["), bytes.Join(pieces, []byte(",")), []byte("]")), nil
}

// HandleStream implements [protocol.Protocol]. A result in one is one piece.
func (p *peer) HandleStream(ctx context.Context, call *pluginv1.Call, send func(chunk []byte) error) error {
	result, err := p.ask(ctx, call, true, send)
	if err != nil || result == nil {
		return err
	}
	return send(result)
}

// ask makes a request of the program. The result is nil where it came in pieces.
func (p *peer) ask(ctx context.Context, call *pluginv1.Call, stream bool, send func([]byte) error) ([]byte, error) {
	leave, err := p.Enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	if len(p.set.Operations) > 0 && !slices.Contains(p.set.Operations, call.GetOperation()) {
		return nil, protocol.Unknown(call.GetOperation())
	}
	if !json.Valid(call.GetPayload()) {
		return nil, sdk.Errorf(codes.InvalidArgument, "PEER_PAYLOAD", "the payload is no JSON").WithRemedy("send one JSON value")
	}
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return nil, p.tooLate(ctx)
	}
	prog, r, err := p.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer prog.abandon(r)
	text, err := encode(p.set.Dialect, &sopRequest{
		ID: r.id, Operation: call.GetOperation(), Payload: call.GetPayload(), Context: call.GetContext(), RequestID: call.GetRequestId(), Stream: stream,
	})
	if err != nil {
		return nil, err
	}
	select {
	case prog.messages <- framingOf(p.set.Framing).frame(text):
	case <-prog.exited:
		return nil, prog.down()
	case <-ctx.Done():
		return nil, p.tooLate(ctx)
	}
	return p.await(ctx, prog, r, call, send)
}

// begin makes a request known to the program that runs, or to the next.
func (p *peer) begin(ctx context.Context) (*program, *request, error) {
	for {
		prog, err := p.running(ctx, false)
		if err != nil {
			return nil, nil, err
		}
		if r := prog.begin(); r != nil {
			return prog, r, nil
		}
	}
}

// await takes the answers to a request until the last.
func (p *peer) await(ctx context.Context, prog *program, r *request, call *pluginv1.Call, send func([]byte) error) ([]byte, error) {
	for {
		a, err := p.answer(ctx, prog, r)
		switch {
		case err != nil:
			return nil, err
		case a.Error != nil:
			p.count.add("failed")
			return nil, a.Error.error(call.GetOperation())
		case a.End:
			p.count.add("answered")
			return nil, nil
		case a.Chunk != nil:
			if err := send(a.Chunk); err != nil {
				p.cancel(prog, r)
				return nil, err
			}
		default:
			p.count.add("answered")
			if a.Result == nil {
				return []byte("null"), nil
			}
			return a.Result, nil
		}
	}
}

// answer takes the next answer to a request. Those of a program that has ended come
// first, in their order, and then its end.
func (p *peer) answer(ctx context.Context, prog *program, r *request) (*answer, error) {
	select {
	case a := <-r.answers:
		return a, nil
	case <-r.overrun:
		return nil, sdk.Errorf(codes.ResourceExhausted, "PEER_OVERRUN", "the program sends the pieces of its result faster than they are taken").
			WithRemedy("take them faster, or have the program send less at once")
	case <-prog.exited:
		select {
		case a := <-r.answers:
			return a, nil
		default:
			p.count.add("lost")
			return nil, prog.down()
		}
	case <-ctx.Done():
		p.cancel(prog, r)
		return nil, p.tooLate(ctx)
	}
}

// cancel tells the program that nobody waits any more, where that is wanted and
// there is room.
func (p *peer) cancel(prog *program, r *request) {
	if !p.set.Cancel {
		return
	}
	text, err := encodeCancel(p.set.Dialect, r.id)
	if err != nil {
		return
	}
	select {
	case prog.messages <- framingOf(p.set.Framing).frame(text):
	default:
	}
}

func (p *peer) tooLate(ctx context.Context) error {
	if ctx.Err() == context.Canceled {
		p.count.add("canceled")
		return ctx.Err()
	}
	p.count.add("timeouts")
	e := sdk.Errorf(codes.DeadlineExceeded, "PEER_DEADLINE", "the program did not answer in time").WithRemedy("see the log of the plugin; raise the timeout of the protocol if the work needs longer")
	e.Retryable = true
	return e
}

// Status implements [protocol.Protocol].
func (p *peer) Status(context.Context, *pluginv1.StatusRequest) (*pluginv1.StatusResponse, error) {
	st := p.Standing.Status()
	st.Operations, st.Counters = p.set.Operations, p.count.all()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.program != nil:
		st.Detail = fmt.Sprintf("the program runs, pid %d", p.program.cmd.Process.Pid)
	case p.stop == nil:
		st.Detail = "the program does not run"
	case p.err != nil:
		st.Detail = "the program is started again: " + p.err.Error()
	}
	return st, nil
}

func clipLine(line []byte) string { return strings.TrimRight(clipTo(string(line), 1000), "\r\n") }

func clipTo(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "?")
}
