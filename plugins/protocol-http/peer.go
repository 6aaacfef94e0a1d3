package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/protocol"
)

const (
	ndjson      = "application/x-ndjson"
	maxComplain = 4096 // bytes of an error that the service sends
	retryMin    = 50 * time.Millisecond
	retryMax    = 2 * time.Second
)

// peer implements [protocol.Protocol].
type peer struct {
	protocol.Standing
	set    settings
	client *http.Client
	logger hclog.Logger

	mu    sync.Mutex
	count map[string]int64
}

func (p *peer) add(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == nil {
		p.count = make(map[string]int64)
	}
	p.count[name]++
}

// Activate implements [protocol.Protocol]: the service has to be well, where it
// says so.
func (p *peer) Activate(ctx context.Context, req *pluginv1.ActivateRequest) (*pluginv1.ActivateResponse, error) {
	if p.set.Health != "" {
		if err := p.healthy(ctx); err != nil {
			return nil, err
		}
	}
	return &pluginv1.ActivateResponse{Mode: p.Set(req.GetMode())}, nil
}

func (p *peer) healthy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.set.join(p.set.Health), nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // its status is what counts
	if resp.StatusCode/100 != 2 {
		e := sdk.Errorf(codes.Unavailable, "PEER_UNWELL", "the service at %s is not well: %s", p.set.where(), resp.Status).WithRemedy("look at the service")
		e.Retryable = true
		return e
	}
	return nil
}

// Deactivate implements [protocol.Protocol].
func (p *peer) Deactivate(ctx context.Context, _ *pluginv1.DeactivateRequest) (*pluginv1.DeactivateResponse, error) {
	err := p.Drain(ctx)
	p.client.CloseIdleConnections()
	return &pluginv1.DeactivateResponse{}, err
}

// Status implements [protocol.Protocol].
func (p *peer) Status(context.Context, *pluginv1.StatusRequest) (*pluginv1.StatusResponse, error) {
	st := p.Standing.Status()
	st.Operations, st.Detail = p.set.Operations, p.set.where()
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Counters = maps.Clone(p.count)
	return st, nil
}

// Handle implements [protocol.Protocol].
func (p *peer) Handle(ctx context.Context, call *pluginv1.Call) ([]byte, error) {
	var result []byte
	err := p.ask(ctx, call, "application/json", func(resp *http.Response) error {
		text, err := io.ReadAll(io.LimitReader(resp.Body, p.set.MaxAnswer+1))
		switch {
		case err != nil:
			return unreachable(ctx, err)
		case int64(len(text)) > p.set.MaxAnswer:
			return tooLarge(p.set.MaxAnswer)
		case len(bytes.TrimSpace(text)) == 0:
			text = []byte("null")
		}
		if !json.Valid(text) {
			p.add("invalid")
			return noJSON()
		}
		result = text
		return nil
	})
	return result, err
}

// HandleStream implements [protocol.Protocol]: each line of the answer is a piece.
// What is no NDJSON is one piece.
func (p *peer) HandleStream(ctx context.Context, call *pluginv1.Call, send func(chunk []byte) error) error {
	return p.ask(ctx, call, ndjson, func(resp *http.Response) error {
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(make([]byte, 0, 64<<10), int(p.set.MaxAnswer))
		for lines.Scan() {
			piece := bytes.TrimSpace(lines.Bytes())
			if len(piece) == 0 {
				continue
			}
			if !json.Valid(piece) {
				p.add("invalid")
				return noJSON()
			}
			if err := send(bytes.Clone(piece)); err != nil {
				return err
			}
		}
		if errors.Is(lines.Err(), bufio.ErrTooLong) {
			return tooLarge(p.set.MaxAnswer)
		}
		if lines.Err() != nil {
			p.add("cut_off")
			return unreachable(ctx, lines.Err())
		}
		return nil
	})
}

// ask posts a call and has the answer read, again where that is safe.
func (p *peer) ask(ctx context.Context, call *pluginv1.Call, accept string, read func(*http.Response) error) error {
	leave, err := p.Enter()
	if err != nil {
		return err
	}
	defer leave()
	if len(p.set.Operations) > 0 && !slices.Contains(p.set.Operations, call.GetOperation()) {
		return protocol.Unknown(call.GetOperation())
	}
	if !json.Valid(call.GetPayload()) {
		return sdk.Errorf(codes.InvalidArgument, "PEER_PAYLOAD", "the payload is no JSON").WithRemedy("send one JSON value")
	}
	for try := 0; ; try++ {
		again, err := p.once(ctx, call, accept, read)
		if err == nil {
			p.add("answered")
			return nil
		}
		if !again || try >= p.set.Retries || !p.wait(ctx, try, err) {
			p.add("failed")
			return err
		}
		p.add("retried")
	}
}

// wait waits before the next attempt, and says whether there is time for it.
func (p *peer) wait(ctx context.Context, try int, err error) bool {
	pause := min(retryMin<<try, retryMax)
	if e := sdk.FromError(err); e.RetryAfter > 0 {
		pause = e.RetryAfter
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once makes one attempt. again says that another may be made: nothing was sent,
// or the operation is safe and nothing of an answer has been handed out.
func (p *peer) once(ctx context.Context, call *pluginv1.Call, accept string, read func(*http.Response) error) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.set.join(call.GetOperation()), bytes.NewReader(call.GetPayload()))
	if err != nil {
		return false, err
	}
	if err := p.headers(req, call, accept); err != nil {
		return false, err
	}
	safe := slices.Contains(p.set.Safe, call.GetOperation())
	resp, err := p.client.Do(req)
	if err != nil {
		return safe && ctx.Err() == nil || notSent(err), unreachable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read as far as it is wanted
	if resp.StatusCode/100 != 2 {
		err := refused(resp, call.GetOperation())
		return safe && err.Retryable, err
	}
	return false, read(resp)
}

func (p *peer) headers(req *http.Request, call *pluginv1.Call, accept string) error {
	for name, value := range p.set.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", accept)
	req.Header.Set("Idempotency-Key", call.GetRequestId())
	req.Header.Set("Sop-Request-Id", call.GetRequestId())
	for _, name := range []string{"agent", "trust", "caller"} {
		if value := call.GetContext()[name]; value != "" {
			req.Header.Set("Sop-"+name, headerText(value))
		}
	}
	if p.set.CredentialFile == "" {
		return nil
	}
	secret, err := credential(p.set.CredentialFile)
	if err != nil {
		return sdk.Errorf(codes.FailedPrecondition, "PEER_CREDENTIAL", "the credential for the service cannot be read: %w", err).
			WithRemedy("mend the file that credential_file names")
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	return nil
}

func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// notSent says that no connection came about, so that nothing can have been done.
func notSent(err error) bool {
	var op *net.OpError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &op) && op.Op == "dial"
}

func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := sdk.Errorf(codes.Unavailable, "PEER_UNREACHABLE", "the service did not answer: %w", err).WithRemedy("look whether it runs, and at its log")
	e.Retryable = true
	return e
}

func tooLarge(limit int64) error {
	return sdk.Errorf(codes.ResourceExhausted, "PEER_ANSWER_TOO_LARGE", "the service answered with more than %d bytes", limit).WithRemedy("raise max_answer, or have it answer in pieces")
}

func noJSON() error {
	return sdk.Errorf(codes.Internal, "PEER_NO_JSON", "the service answered with what is no JSON").WithRemedy("look at the service; url may be that of something else")
}

// statusCodes are what answers of HTTP mean.
var statusCodes = map[int]codes.Code{
	http.StatusBadRequest: codes.InvalidArgument, http.StatusUnprocessableEntity: codes.InvalidArgument, http.StatusUnauthorized: codes.FailedPrecondition,
	http.StatusForbidden: codes.FailedPrecondition, http.StatusNotFound: codes.Unimplemented, http.StatusMethodNotAllowed: codes.Unimplemented,
	http.StatusConflict: codes.Aborted, http.StatusTooManyRequests: codes.ResourceExhausted, http.StatusNotImplemented: codes.Unimplemented,
	http.StatusBadGateway: codes.Unavailable, http.StatusServiceUnavailable: codes.Unavailable, http.StatusGatewayTimeout: codes.DeadlineExceeded,
}

// refused says what an answer means that is none. A body such as {"error":
// {"message": …, "reason": …}} is taken at its word.
func refused(resp *http.Response, operation string) *sdk.Error {
	code, known := statusCodes[resp.StatusCode]
	if !known {
		code = codes.Internal
	}
	e := sdk.Errorf(code, "PEER_STATUS_"+strconv.Itoa(resp.StatusCode), "the service answered %s with %s", operation, resp.Status).WithRemedy("look at the service")
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxComplain))
	var said struct {
		Error struct {
			Message, Reason, Remedy string
		}
	}
	if err == nil && json.Unmarshal(text, &said) == nil && said.Error.Message != "" {
		e.Message = fmt.Sprintf("%s: %s", operation, strings.ToValidUTF8(said.Error.Message, "?"))
		if said.Error.Reason != "" {
			e.Reason = said.Error.Reason
		}
		e.Remedy = said.Error.Remedy
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Retryable = true
		if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && after > 0 {
			e.RetryAfter = time.Duration(after) * time.Second
		}
	}
	return e
}
