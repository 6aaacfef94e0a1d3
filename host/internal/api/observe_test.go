package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// tally is a Meter that keeps what it is told.
type tally struct {
	mu       sync.Mutex
	inFlight int
	ended    []string
	ways     map[string]int // what became of how many connections
}

func (m *tally) CallStarted(string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight++
}

func (m *tally) CallEnded(method, code string, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight--
	if took >= 0 {
		m.ended = append(m.ended, method+" "+code)
	}
}

func (m *tally) ConnectionOpened(way string)  { m.connections(way + " opened") }
func (m *tally) ConnectionClosed(way string)  { m.connections(way + " closed") }
func (m *tally) ConnectionRefused(way string) { m.connections(way + " refused") }

func (m *tally) connections(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ways == nil {
		m.ways = make(map[string]int)
	}
	m.ways[what]++
}

// standing is a Health that stands as it is told to.
type standing struct{ ready Readiness }

func (s *standing) Readiness(context.Context) Readiness { return s.ready }
func (s *standing) Changed() <-chan struct{}            { return nil }

// observedServer serves without a socket: who is in the caller's context asks.
func observedServer(caller *nexus.Caller, o Observers, denied func(string)) http.Handler {
	s := NewServer(&nexus.Nexus{Plugins: &fakes{}, Audit: &fakeLog{}, Logger: hclog.NewNullLogger(), OnDenied: denied})
	s.Observe(o)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if caller != nil {
			r = r.WithContext(nexus.WithCaller(r.Context(), *caller))
		}
		s.http.Handler.ServeHTTP(w, r)
	})
}

func ask(t *testing.T, h http.Handler, path string) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	var body map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &body) // not everything is JSON
	return w, body
}

// The metrics are behind the door; whether the host is ready and what the API
// looks like is not.
func TestWhoMaySeeWhat(t *testing.T) {
	o := Observers{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a 1\n") }),
		Health:  &standing{Readiness{State: "starting", Reasons: []string{"the host is starting"}}},
	}
	owner, stranger := nexus.PeerCaller(0, 0), nexus.PeerCaller(54321, 0)
	for _, tt := range []struct {
		caller *nexus.Caller
		status int
		reason string
	}{{nil, http.StatusUnauthorized, "UNAUTHENTICATED"}, {&stranger, http.StatusForbidden, "NOT_PERMITTED"}, {&owner, http.StatusOK, ""}} {
		denied := ""
		h := observedServer(tt.caller, o, func(reason string) { denied += reason })
		w, body := ask(t, h, "/metrics")
		reason := ""
		if w.Code != http.StatusOK {
			reason = reasonInJSON(t, body)
		}
		if w.Code != tt.status || reason != tt.reason || denied != tt.reason || (tt.status == http.StatusOK) != (w.Body.String() == "a 1\n") {
			t.Errorf("%v: %d, %s", tt.caller, w.Code, w.Body)
		}
		if w, body := ask(t, h, "/readyz"); w.Code != http.StatusServiceUnavailable || body["state"] != "starting" {
			t.Errorf("%v: ready: %d, %s", tt.caller, w.Code, w.Body)
		}
		if w, body := ask(t, h, "/openapi.json"); w.Code != http.StatusOK || body["openapi"] != "3.1.0" {
			t.Errorf("%v: document: %d", tt.caller, w.Code)
		}
		if w, _ := ask(t, h, "/healthz"); w.Code != http.StatusOK {
			t.Errorf("%v: alive: %d", tt.caller, w.Code)
		}
	}
}

// Every call is counted once, with what it ended with: answered, failed,
// refused at the door, or broken off by a panic.
func TestCallsAreCounted(t *testing.T) {
	meter := &tally{}
	owner := nexus.PeerCaller(0, 0)
	server := httptest.NewServer(observedServer(&owner, Observers{Meter: meter, Health: &standing{}}, nil))
	defer server.Close()
	client := apiv1connect.NewPluginClient(server.Client(), server.URL)
	if _, err := client.ListPlugins(t.Context(), connect.NewRequest(&apiv1.ListPluginsRequest{})); err != nil {
		t.Error(err)
	}
	if _, err := client.GetPlugin(t.Context(), connect.NewRequest(&apiv1.GetPluginRequest{Id: "x"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Error(err)
	}
	server.Config.ErrorLog = hclog.NewNullLogger().StandardLogger(nil)
	if _, err := apiv1connect.NewGapClient(server.Client(), server.URL).GetGap(t.Context(), connect.NewRequest(&apiv1.GetGapRequest{})); tokenReason(t, err) != "HOST_FAULT" { // there are no gaps: it panics
		t.Errorf("answered without gaps: %v", err)
	}
	stranger := nexus.PeerCaller(54321, 0)
	refused := httptest.NewServer(observedServer(&stranger, Observers{Meter: meter, Health: &standing{}}, nil))
	defer refused.Close()
	stream, err := apiv1connect.NewAuditClient(refused.Client(), refused.URL).ExportRecords(t.Context(), connect.NewRequest(&apiv1.ExportRecordsRequest{}))
	if err != nil || stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodePermissionDenied {
		t.Error(err, stream)
	}
	_ = stream.Close() // refused already
	meter.mu.Lock()
	defer meter.mu.Unlock()
	want := []string{"sop.api.v1.Plugin/ListPlugins ok", "sop.api.v1.Plugin/GetPlugin not_found", "sop.api.v1.Gap/GetGap internal", "sop.api.v1.Audit/ExportRecords permission_denied"}
	if !slices.Equal(meter.ended, want) || meter.inFlight != 0 {
		t.Errorf("%q, %d in flight", meter.ended, meter.inFlight)
	}
}

// reasonInJSON reads a refusal as Connect gives it in JSON, with a remedy.
func reasonInJSON(t *testing.T, body map[string]any) (reason string) {
	t.Helper()
	remedied := false
	details, _ := body["details"].([]any)
	for _, d := range details {
		detail, _ := d.(map[string]any)
		debug, _ := detail["debug"].(map[string]any)
		switch detail["type"] {
		case "google.rpc.ErrorInfo":
			reason, _ = debug["reason"].(string)
		case "google.rpc.Help":
			remedied = debug["links"] != nil
		}
	}
	if body["code"] == nil || body["message"] == nil || !remedied {
		t.Errorf("a refusal without code, message or remedy: %v", body)
	}
	return reason
}
