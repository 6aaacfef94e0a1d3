package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/protocol"
)

// ProtocolPeer is a protocol plugin with a peer behind it, to be tried.
type ProtocolPeer struct {
	// New returns a configured implementation that is not in service. It is called
	// for each test.
	New func(t *testing.T) protocol.Protocol
	// Echo is an operation whose result is its payload.
	Echo string
	// Hang is an operation that is not answered in a minute; empty: there is none.
	Hang string
	// Stream is an operation that answers a list in one piece for each element;
	// empty: there is none.
	Stream string
}

// Protocol tries whether a protocol plugin keeps to the contract, over gRPC as the
// host speaks to it.
func Protocol(t *testing.T, peer ProtocolPeer) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *protocolTrial){
		"Modes":      protocolModes,
		"Calls":      protocolCalls,
		"BadCalls":   protocolBadCalls,
		"Concurrent": protocolConcurrent,
		"Deadline":   protocolDeadline,
		"Stream":     protocolStream,
		"Drain":      protocolDrain,
	} {
		t.Run(name, func(t *testing.T) { test(t, newProtocolTrial(t, peer)) })
	}
}

const protocolPatience = 20 * time.Second

type protocolTrial struct {
	peer   ProtocolPeer
	client pluginv1.ProtocolClient
}

func newProtocolTrial(t *testing.T, peer ProtocolPeer) *protocolTrial {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	impl := peer.New(t)
	protocol.Kind.Register(server, impl)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // it ends when it is stopped
	}()
	conn, err := grpc.NewClient("passthrough:///plugin", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	trial := &protocolTrial{peer: peer, client: protocol.Kind.NewClient(conn)}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), protocolPatience)
		defer cancel()
		if _, err := trial.client.Deactivate(ctx, &pluginv1.DeactivateRequest{}); err != nil {
			t.Errorf("Deactivate at the end: %v", err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		<-done
	})
	return trial
}

func (p *protocolTrial) activate(t *testing.T, mode pluginv1.Mode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), protocolPatience)
	defer cancel()
	resp, err := p.client.Activate(ctx, &pluginv1.ActivateRequest{Mode: mode, Token: "token"})
	if err != nil || resp.GetMode() != mode {
		t.Fatalf("Activate in %v: %v, %v", mode, resp.GetMode(), err)
	}
}

func (p *protocolTrial) call(ctx context.Context, operation, payload string) (string, error) {
	resp, err := p.client.Handle(ctx, &pluginv1.HandleRequest{Call: &pluginv1.Call{
		RequestId: "r-" + payload, Operation: operation, Payload: []byte(payload), Context: map[string]string{"agent": "plugintest"},
	}})
	return string(resp.GetResult()), err
}

func wantCode(t *testing.T, what string, err error, want ...codes.Code) {
	t.Helper()
	got := codes.OK
	if err != nil {
		got = sdk.FromError(err).Code
	}
	for _, c := range want {
		if c == got {
			return
		}
	}
	t.Errorf("%s: %v (%v), want one of %v", what, got, err, want)
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

// A peer is inactive until it is activated, says so, and can be activated and
// deactivated again and again.
func protocolModes(t *testing.T, p *protocolTrial) {
	_, err := p.call(t.Context(), p.peer.Echo, "1")
	wantCode(t, "a call of an inactive peer", err, codes.FailedPrecondition)
	for range 2 {
		for _, mode := range []pluginv1.Mode{pluginv1.Mode_MODE_PASSIVE, pluginv1.Mode_MODE_ACTIVE, pluginv1.Mode_MODE_ACTIVE} {
			p.activate(t, mode)
			st, err := p.client.Status(t.Context(), &pluginv1.StatusRequest{})
			if err != nil || st.GetMode() != mode {
				t.Errorf("Status after Activate in %v: %v, %v", mode, st.GetMode(), err)
			}
			if got, err := p.call(t.Context(), p.peer.Echo, "1"); err != nil || got != "1" {
				t.Errorf("a call in %v: %s, %v", mode, got, err)
			}
		}
		for range 2 {
			if _, err := p.client.Deactivate(t.Context(), &pluginv1.DeactivateRequest{}); err != nil {
				t.Errorf("Deactivate: %v", err)
			}
		}
		if st, err := p.client.Status(t.Context(), &pluginv1.StatusRequest{}); err != nil || st.GetMode() != pluginv1.Mode_MODE_INACTIVE {
			t.Errorf("Status after Deactivate: %v, %v", st.GetMode(), err)
		}
		_, err := p.call(t.Context(), p.peer.Echo, "1")
		wantCode(t, "a call after Deactivate", err, codes.FailedPrecondition)
	}
}

func protocolCalls(t *testing.T, p *protocolTrial) {
	p.activate(t, pluginv1.Mode_MODE_ACTIVE)
	for _, payload := range []string{`null`, `1`, `"text \u0000 \n"`, `[]`, `{"a": {"b": [1, 2, {"c": null}]}}`, `"` + string(make([]byte, 0)) + `"`} {
		if got, err := p.call(t.Context(), p.peer.Echo, payload); err != nil || !sameJSON(got, payload) {
			t.Errorf("%s: %s, %v", payload, got, err)
		}
	}
	large, err := json.Marshal(make([]int, 100_000))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.call(t.Context(), p.peer.Echo, string(large)); err != nil || !sameJSON(got, string(large)) {
		t.Errorf("%d bytes: %d, %v", len(large), len(got), err)
	}
}

func protocolBadCalls(t *testing.T, p *protocolTrial) {
	p.activate(t, pluginv1.Mode_MODE_ACTIVE)
	_, err := p.call(t.Context(), "no-such-operation", "1")
	wantCode(t, "an unknown operation", err, codes.Unimplemented)
	_, err = p.call(t.Context(), p.peer.Echo, "{")
	wantCode(t, "a payload that is no JSON", err, codes.InvalidArgument)
	if got, err := p.call(t.Context(), p.peer.Echo, "1"); err != nil || got != "1" {
		t.Errorf("the next call: %s, %v", got, err)
	}
}

// Many calls at a time are each given their own answer.
func protocolConcurrent(t *testing.T, p *protocolTrial) {
	p.activate(t, pluginv1.Mode_MODE_ACTIVE)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 20 {
				want := fmt.Sprint(i*1000 + j)
				if got, err := p.call(t.Context(), p.peer.Echo, want); err != nil || got != want {
					t.Errorf("%s: %s, %v", want, got, err)
				}
			}
		})
	}
	wg.Wait()
	if st, err := p.client.Status(t.Context(), &pluginv1.StatusRequest{}); err != nil || st.GetInFlight() != 0 {
		t.Errorf("in flight when all have ended: %d, %v", st.GetInFlight(), err)
	}
}

// A call ends at its deadline, and when its caller goes away.
func protocolDeadline(t *testing.T, p *protocolTrial) {
	if p.peer.Hang == "" {
		t.Skip("the peer has no operation that hangs")
	}
	p.activate(t, pluginv1.Mode_MODE_ACTIVE)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	_, err := p.call(ctx, p.peer.Hang, "1")
	cancel()
	wantCode(t, "past the deadline", err, codes.DeadlineExceeded)
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = p.call(ctx, p.peer.Hang, "1")
	wantCode(t, "the caller has gone", err, codes.Canceled)
	if got, err := p.call(t.Context(), p.peer.Echo, "2"); err != nil || got != "2" {
		t.Errorf("the next call: %s, %v", got, err)
	}
	p.idle(t)
}

// idle waits until the peer says that nothing is in flight.
func (p *protocolTrial) idle(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(protocolPatience)
	for {
		st, err := p.client.Status(t.Context(), &pluginv1.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if st.GetInFlight() == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d calls are in flight for ever", st.GetInFlight())
		}
	}
}

func (p *protocolTrial) stream(ctx context.Context, operation, payload string) (pieces []string, err error) {
	stream, err := p.client.HandleStream(ctx, &pluginv1.HandleStreamRequest{Call: &pluginv1.Call{RequestId: "s", Operation: operation, Payload: []byte(payload)}})
	if err != nil {
		return nil, err
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return pieces, nil
		}
		if err != nil {
			return pieces, err
		}
		pieces = append(pieces, string(resp.GetChunk()))
	}
}

func protocolStream(t *testing.T, p *protocolTrial) {
	_, err := p.stream(t.Context(), p.peer.Echo, "1")
	wantCode(t, "a stream of an inactive peer", err, codes.FailedPrecondition)
	p.activate(t, pluginv1.Mode_MODE_ACTIVE)
	if pieces, err := p.stream(t.Context(), p.peer.Echo, `{"a":1}`); err != nil || len(pieces) != 1 || !sameJSON(pieces[0], `{"a":1}`) {
		t.Errorf("a result in one is one piece: %v, %v", pieces, err)
	}
	_, err = p.stream(t.Context(), "no-such-operation", "1")
	wantCode(t, "an unknown operation", err, codes.Unimplemented)
	if p.peer.Stream == "" {
		return
	}
	if pieces, err := p.stream(t.Context(), p.peer.Stream, `[1,"two",{"three":3}]`); err != nil || len(pieces) != 3 || !sameJSON(pieces[2], `{"three":3}`) {
		t.Errorf("three pieces: %v, %v", pieces, err)
	}
	if pieces, err := p.stream(t.Context(), p.peer.Stream, `[]`); err != nil || len(pieces) != 0 {
		t.Errorf("no piece: %v, %v", pieces, err)
	}
}

// Deactivate lets calls end, as long as it may take, and lets no more in.
func protocolDrain(t *testing.T, p *protocolTrial) {
	if p.peer.Hang == "" {
		t.Skip("the peer has no operation that hangs")
	}
	p.activate(t, pluginv1.Mode_MODE_ACTIVE)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := p.call(ctx, p.peer.Hang, "1")
		ended <- err
	}()
	deadline := time.Now().Add(protocolPatience)
	for {
		st, err := p.client.Status(t.Context(), &pluginv1.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if st.GetInFlight() == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the call is not in flight")
		}
	}
	out := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), protocolPatience)
		defer cancel()
		_, err := p.client.Deactivate(ctx, &pluginv1.DeactivateRequest{})
		out <- err
	}()
	select {
	case err := <-out:
		t.Errorf("Deactivate did not wait for the call: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	cancel()
	if err := <-out; err != nil {
		t.Errorf("Deactivate: %v", err)
	}
	<-ended //nolint:errcheck // the test is over
}
