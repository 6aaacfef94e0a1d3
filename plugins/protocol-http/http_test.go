package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/plugintest"
	"github.com/sop-host/sop/sdk/protocol"
)

// service is a peer that answers as the operation says.
type service struct {
	asked atomic.Int64
	last  atomic.Pointer[http.Request]
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.asked.Add(1)
	s.last.Store(r)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch strings.TrimPrefix(r.URL.Path, "/v1/") {
	case "health":
	case "echo":
		_, _ = w.Write(body)
	case "hang":
		<-r.Context().Done()
	case "stream":
		var list []json.RawMessage
		if json.Unmarshal(body, &list) != nil {
			return
		}
		for _, piece := range list {
			fmt.Fprintf(w, "%s\n", piece)
			_ = http.NewResponseController(w).Flush()
		}
	case "cut":
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("[1,"))
	case "html":
		_, _ = w.Write([]byte("<html>"))
	case "large":
		_, _ = w.Write([]byte(`"` + strings.Repeat("x", 3000) + `"`))
	case "flaky", "flaky-unsafe":
		if n%3 != 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("1"))
	case "refuse":
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write([]byte(`{"error": {"message": "no such gap", "reason": "NO_GAP", "remedy": "look again"}}`))
	default:
		http.NotFound(w, r)
	}
}

func newPeer(t *testing.T, url, more string) *peer {
	t.Helper()
	p := &peer{logger: hclog.NewNullLogger()}
	if err := p.configure(t.Context(), sdk.NewConfig(fmt.Appendf(nil, `{"url": %q%s}`, url+"/v1", more), t.TempDir())); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConformance(t *testing.T) {
	plugintest.Protocol(t, plugintest.ProtocolPeer{
		New: func(t *testing.T) protocol.Protocol {
			server := httptest.NewServer(&service{})
			t.Cleanup(server.Close)
			return newPeer(t, server.URL, `, "health": "health"`)
		},
		Echo: "echo", Hang: "hang", Stream: "stream",
	})
}

func activated(t *testing.T, url, more string) *peer {
	t.Helper()
	p := newPeer(t, url, more)
	if _, err := p.Activate(t.Context(), &pluginv1.ActivateRequest{Mode: pluginv1.Mode_MODE_ACTIVE}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

func (p *peer) try(ctx context.Context, operation string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	result, err := p.Handle(ctx, &pluginv1.Call{RequestId: "r1", Operation: operation, Payload: []byte("1"), Context: map[string]string{"agent": "bot\n7"}})
	return string(result), err
}

func TestBadAnswers(t *testing.T) {
	s := &service{}
	server := httptest.NewServer(s)
	defer server.Close()
	p := activated(t, server.URL, `, "max_answer": 2000`)
	for operation, want := range map[string]struct {
		code   codes.Code
		reason string
	}{
		"cut": {codes.Unavailable, "PEER_UNREACHABLE"}, "html": {codes.Internal, "PEER_NO_JSON"}, "large": {codes.ResourceExhausted, "PEER_ANSWER_TOO_LARGE"},
		"refuse": {codes.InvalidArgument, "NO_GAP"}, "missing": {codes.Unimplemented, "PEER_STATUS_404"},
	} {
		if _, err := p.try(t.Context(), operation); sdk.FromError(err).Code != want.code || sdk.FromError(err).Reason != want.reason {
			t.Errorf("%s: %v %+v", operation, err, sdk.FromError(err))
		}
	}
	if got, err := p.try(t.Context(), "echo"); err != nil || got != "1" {
		t.Errorf("%s, %v", got, err)
	}
	h := s.last.Load().Header
	if h.Get("Idempotency-Key") != "r1" || h.Get("Sop-Agent") != "bot?7" || h.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", h)
	}
}

// Only what is safe is sent again, and what was never sent.
func TestRetries(t *testing.T) {
	s := &service{}
	server := httptest.NewServer(s)
	p := activated(t, server.URL, `, "safe": ["flaky"]`)
	if got, err := p.try(t.Context(), "flaky"); err != nil || got != "1" || s.asked.Load() != 3 {
		t.Errorf("%s, %v, asked %d times", got, err, s.asked.Load())
	}
	if _, err := p.try(t.Context(), "flaky-unsafe"); sdk.FromError(err).Code != codes.Unavailable || s.asked.Load() != 4 {
		t.Errorf("%v, asked %d times", err, s.asked.Load())
	}
	server.Close()
	if _, err := p.try(t.Context(), "echo"); sdk.FromError(err).Reason != "PEER_UNREACHABLE" || !sdk.FromError(err).Retryable {
		t.Errorf("%v", err)
	}
	if p.count["retried"] != 4 {
		t.Errorf("counted %v", p.count)
	}
}

// The service is believed by its certificate, and told the credential, which is in
// no error.
func TestTLSAndCredential(t *testing.T) {
	s := &service{}
	server := httptest.NewTLSServer(s)
	defer server.Close()
	server.Config.ErrorLog = nil
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "credential")
	for name, text := range map[string][]byte{
		ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), secret: []byte("s3cret\n"),
	} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := activated(t, server.URL, fmt.Sprintf(`, "ca_file": %q, "credential_file": %q, "health": "health"`, ca, secret))
	if _, err := p.try(t.Context(), "echo"); err != nil || s.last.Load().Header.Get("Authorization") != "Bearer s3cret" {
		t.Errorf("%v, %v", err, s.last.Load().Header)
	}
	distrustful := newPeer(t, server.URL, `, "health": "health"`)
	if _, err := distrustful.Activate(t.Context(), &pluginv1.ActivateRequest{Mode: pluginv1.Mode_MODE_ACTIVE}); sdk.FromError(err).Reason != "PEER_UNREACHABLE" {
		t.Errorf("a certificate of nobody: %v", err)
	}
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	if _, err := p.try(t.Context(), "echo"); sdk.FromError(err).Reason != "PEER_CREDENTIAL" {
		t.Errorf("%v", err)
	}
}

// A service may have a socket instead of a port, however long its path.
func TestSocket(t *testing.T) {
	for _, depth := range []int{0, 30} {
		dir := filepath.Join(t.TempDir(), strings.Repeat("long/", depth))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Chdir(dir)
		listener, err := net.Listen("unix", "s")
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(&service{})
		server.Listener = listener
		server.Start()
		p := activated(t, "http://scp", fmt.Sprintf(`, "socket": %q, "health": "health", "headers": {"X-Key": "k"}`, filepath.Join(dir, "s")))
		if got, err := p.try(t.Context(), "echo"); err != nil || got != "1" {
			t.Errorf("%s, %v", got, err)
		}
		server.Close()
		if _, err := p.try(t.Context(), "echo"); sdk.FromError(err).Reason != "PEER_UNREACHABLE" || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("nobody serves: %v", err)
		}
	}
}

func TestConfigure(t *testing.T) {
	for text, attribute := range map[string]string{
		`{"url": "arp"}`:             "url",
		`{"url": "https://u:p@arp"}`: "url",
		`{"url": "http://arp.example", "headers": {"X-Key": "k"}}`:      "url",
		`{"url": "http://localhost:1", "retries": 99}`:                  "retries",
		`{"url": "http://arp", "socket": "arp.sock"}`:                   "socket",
		`{"url": "http://localhost:1", "max_answer": 1}`:                "max_answer",
		`{"url": "http://localhost:1", "ca_file": "/no/such"}`:          "ca_file",
		`{"url": "http://localhost:1", "credential_file": "/dev/null"}`: "credential_file",
	} {
		err := (&peer{logger: hclog.NewNullLogger()}).configure(t.Context(), sdk.NewConfig([]byte(text), t.TempDir()))
		if err == nil || !strings.HasPrefix(err.Error(), attribute+": ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
