package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/policy"
	"github.com/sop-host/sop/host/internal/protocol"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
	"github.com/sop-host/sop/sdk"
)

// fakeProtocols echo. The operation "busy" is turned away.
type fakeProtocols struct{ called []string }

func (f *fakeProtocols) List(context.Context) []*protocol.Status {
	return []*protocol.Status{{Name: "arp", State: protocol.StateActive}, {Name: "scp", State: protocol.StateFailed, Error: sdk.Errorf(codes.Unavailable, "X", "sick")}}
}

func (f *fakeProtocols) Call(ctx context.Context, c *protocol.Call) ([]byte, protocol.Outcome, error) {
	if c.Operation == "busy" {
		return nil, protocol.Outcome{}, sdk.Errorf(codes.ResourceExhausted, protocol.ReasonBusy, "busy")
	}
	if err := c.Take(ctx); err != nil {
		return nil, protocol.Outcome{}, err
	}
	f.called = append(f.called, c.Operation)
	out := protocol.Outcome{RequestID: "r1", Sent: true, Took: time.Millisecond}
	if c.Operation == "fail" {
		return nil, out, sdk.Errorf(codes.Internal, "PEER_BROKE", "it broke")
	}
	return c.Payload, out, nil
}

func (f *fakeProtocols) Stream(ctx context.Context, c *protocol.Call, send func([]byte) error) (protocol.Outcome, error) {
	result, out, err := f.Call(ctx, c)
	for range 2 {
		if err == nil {
			err = send(result)
		}
	}
	return out, err
}
func (*fakeProtocols) Check(*protocol.Call) error { return nil }
func (*fakeProtocols) Activate(_ context.Context, name string, mode protocol.Mode, by string) (*protocol.Status, error) {
	return &protocol.Status{Name: name, Mode: mode, By: by}, nil
}
func (*fakeProtocols) CheckActivate(string) error { return nil }
func (*fakeProtocols) Deactivate(_ context.Context, name, by, why string) (*protocol.Status, error) {
	return &protocol.Status{Name: name, By: by, Why: why}, nil
}
func (*fakeProtocols) CheckDeactivate(string) error       { return nil }
func (*fakeProtocols) Sandboxed(_, operation string) bool { return operation == "render" }
func (*fakeProtocols) Within(string, string, string, string) (*protocol.Parent, error) {
	return nil, sdk.Errorf(codes.PermissionDenied, protocol.ReasonCallEnded, "no call")
}

// policySpy keeps what was asked.
type policySpy struct {
	mu    sync.Mutex
	asked []*policy.Request
}

func (s *policySpy) Decide(req *policy.Request) policy.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, req)
	return policy.Default().Decide(req)
}
func (*policySpy) Set() *policy.Set { return policy.Default() }

func (s *policySpy) last() *policy.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[len(s.asked)-1]
}

type protocolSite struct {
	peers  *fakeProtocols
	spy    *policySpy
	tokens *token.Service
	log    *audit.Log
	client apiv1connect.ProtocolClient
	token  apiv1connect.TokenClient
	me     string
}

func newProtocolSite(t *testing.T) *protocolSite {
	db, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, err := token.LoadKey(filepath.Join(dir, "token.key"))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := token.NewService(t.Context(), db.Tokens(), token.Options{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	auditKey, err := audit.LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.NewLog(audit.Options{Store: db.Audit(), Key: auditKey})
	if err != nil {
		t.Fatal(err)
	}
	s := &protocolSite{peers: &fakeProtocols{}, spy: &policySpy{}, tokens: tokens, log: log, me: nexus.PeerCaller(0, 0).Name}
	server := NewServer(&nexus.Nexus{Protocols: s.peers, Tokens: tokens, Audit: log, Policy: s.spy, Logger: hclog.NewNullLogger()})
	socket := filepath.Join(dir, "s.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, socket) }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer cancel()
		for _, err := range []error{server.Shutdown(ctx), <-served, db.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	calls := &http.Client{Transport: transport}
	s.client, s.token = apiv1connect.NewProtocolClient(calls, "http://sop"), apiv1connect.NewTokenClient(calls, "http://sop")
	me, err := apiv1connect.NewAgentClient(calls, "http://sop").WhoAmI(t.Context(), connect.NewRequest(&apiv1.WhoAmIRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	s.me = me.Msg.GetName()
	return s
}

func (s *protocolSite) issue(t *testing.T, typ token.Type, operations ...string) (string, *token.Token) {
	t.Helper()
	secret, issued, err := s.tokens.Issue(t.Context(), token.Spec{Type: typ, Protocol: "arp", Operations: operations, Requester: s.me, MaxUses: 5, IssuedBy: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return secret.Reveal(), issued
}

func (s *protocolSite) call(ctx context.Context, operation, field, header string) (string, error) {
	req := connect.NewRequest(&apiv1.CallProtocolRequest{Protocol: "arp", Operation: operation, Payload: `{"a":1}`, Token: field})
	if header != "" {
		req.Header().Set(tokenHeader, header)
	}
	answer, err := s.client.CallProtocol(ctx, req)
	if err != nil {
		return "", err
	}
	return answer.Msg.GetResult(), nil
}

// A call takes a use of an operation token of the caller's own, presented in the
// message or in the header, and none where it is not made.
func TestProtocolCallsTakeTokens(t *testing.T) {
	s := newProtocolSite(t)
	secret, issued := s.issue(t, token.Operation, "analyze", "busy", "fail")
	other, _ := s.issue(t, token.Todo, "analyze")
	for name, tt := range map[string]struct{ operation, field, header, want string }{
		"none":            {"analyze", "", "", "TOKEN_MISSING"},
		"of another type": {"analyze", other, "", "TOKEN_WRONG_TYPE"},
		"other operation": {"recall", secret, "", "TOKEN_WRONG_OPERATION"},
		"no token":        {"analyze", "", "sop_o_x", "TOKEN_MALFORMED"},
		"turned away":     {"busy", secret, "", protocol.ReasonBusy},
		"it fails":        {"fail", secret, "", "PEER_BROKE"},
		"in the message":  {"analyze", secret, "", ""},
		"in the header":   {"analyze", "", secret, ""},
		"in both":         {"analyze", secret, secret, ""},
	} {
		got, err := s.call(t.Context(), tt.operation, tt.field, tt.header)
		if tt.want != "" && wireReason(err) != tt.want || tt.want == "" && (err != nil || got != `{"a":1}`) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, tt.want)
		}
	}
	if now, err := s.tokens.Get(t.Context(), issued.ID); err != nil || now.Uses != 4 {
		t.Errorf("%d uses, %v", now.Uses, err)
	}
	page, err := s.log.List(t.Context(), audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := make(map[audit.Outcome]int)
	for _, r := range page.Records {
		if r.Action != "protocol.call" {
			continue
		}
		outcomes[r.Outcome]++
		if r.Resource != "protocol/arp" || r.Token != issued.Accessor || r.Attributes[audit.AttributePayloadSize] != "7" || len(r.Attributes[audit.AttributePayloadSum]) != 64 {
			t.Errorf("%+v", r)
		}
		if r.Outcome == audit.Success && (r.Attributes["result_bytes"] != "7" || r.Attributes["result_sha256"] != r.Attributes[audit.AttributePayloadSum]) {
			t.Errorf("%+v", r.Attributes)
		}
	}
	if outcomes[audit.Success] != 3 || outcomes[audit.Failure] != 1 {
		t.Errorf("outcomes %v", outcomes)
	}
}

func TestProtocolStreams(t *testing.T) {
	s := newProtocolSite(t)
	secret, issued := s.issue(t, token.Operation, "analyze")
	ask := func(check bool) (pieces int, err error) {
		req := connect.NewRequest(&apiv1.StreamProtocolRequest{Protocol: "arp", Operation: "analyze", Payload: "1", Token: secret, IdempotencyKey: "k", ValidateOnly: check})
		stream, err := s.client.StreamProtocol(t.Context(), req)
		if err != nil {
			return 0, err
		}
		defer func() { _ = stream.Close() }() // it has ended
		for stream.Receive() {
			pieces++
		}
		return pieces, stream.Err()
	}
	for range 2 { // the second is a retry and takes no further use
		if n, err := ask(false); err != nil || n != 2 {
			t.Errorf("%d pieces, %v", n, err)
		}
	}
	if n, err := ask(true); err != nil || n != 0 {
		t.Errorf("only checked: %d pieces, %v", n, err)
	}
	if now, err := s.tokens.Get(t.Context(), issued.ID); err != nil || now.Uses != 1 {
		t.Errorf("%d uses, %v", now.Uses, err)
	}
}

// Policy is told of the token that any call presents, and what a call of a
// protocol is about.
func TestPolicyKnowsTheToken(t *testing.T) {
	s := newProtocolSite(t)
	secret, _ := s.issue(t, token.Operation, "render")
	list := connect.NewRequest(&apiv1.ListTokensRequest{})
	list.Header().Set(tokenHeader, secret)
	if _, err := s.token.ListTokens(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if q := s.spy.last(); q.Action != "token.read" || q.Context["token_type"] != "operation" {
		t.Errorf("%+v", q)
	}
	if _, err := s.call(t.Context(), "render", secret, ""); err != nil {
		t.Fatal(err)
	}
	q := s.spy.last()
	if q.Action != "protocol.call" || q.Resource.String() != `Protocol::"arp"` || fmt.Sprint(q.Context) != "map[operation:render sandboxed:true token_type:operation]" {
		t.Errorf("%+v", q)
	}
	list.Header().Set(tokenHeader, secret[:len(secret)-2]+"xx")
	if _, err := s.token.ListTokens(t.Context(), list); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a token that is none: %v", err)
	}
}

func TestProtocolAdministration(t *testing.T) {
	s := newProtocolSite(t)
	list, err := s.client.ListProtocols(t.Context(), connect.NewRequest(&apiv1.ListProtocolsRequest{Filter: "state = failed"}))
	if err != nil || len(list.Msg.GetProtocols()) != 1 || list.Msg.GetProtocols()[0].GetError() != "sick" {
		t.Errorf("%v, %v", list, err)
	}
	on, err := s.client.ActivateProtocol(t.Context(), connect.NewRequest(&apiv1.ActivateProtocolRequest{Name: "arp", Mode: "passive"}))
	if err != nil || on.Msg.GetProtocol().GetMode() != "passive" || on.Msg.GetProtocol().GetBy() != s.me {
		t.Errorf("%v, %v", on, err)
	}
	if _, err := s.client.ActivateProtocol(t.Context(), connect.NewRequest(&apiv1.ActivateProtocolRequest{Name: "arp", Mode: "inactive"})); wireReason(err) != protocol.ReasonMode {
		t.Errorf("%v", err)
	}
	off, err := s.client.DeactivateProtocol(t.Context(), connect.NewRequest(&apiv1.DeactivateProtocolRequest{Name: "arp", Reason: "why"}))
	if err != nil || off.Msg.GetProtocol().GetReason() != "why" {
		t.Errorf("%v, %v", off, err)
	}
	if len(s.peers.called) != 0 || slices.Contains(s.peers.called, "x") {
		t.Error("something was called")
	}
}
