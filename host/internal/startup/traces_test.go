package startup

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// collector receives spans as an OpenTelemetry collector does.
type collector struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	spans   []sentSpan
	headers http.Header
	arrived chan struct{} // has room for one
}

type sentSpan struct {
	*tracev1.Span
	service string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t, arrived: make(chan struct{}, 1)}
	c.server = httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(c.server.Close)
	return c
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(z)
		}
	}
	var req collectorv1.ExportTraceServiceRequest
	if err = errors.Join(err, proto.Unmarshal(body, &req)); err != nil || r.URL.Path != "/v1/traces" {
		c.t.Errorf("%s: %v", r.URL.Path, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers = r.Header
	for _, rs := range req.GetResourceSpans() {
		service := ""
		for _, kv := range rs.GetResource().GetAttributes() {
			if kv.GetKey() == "service.name" {
				service = kv.GetValue().GetStringValue()
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				c.spans = append(c.spans, sentSpan{s, service})
			}
		}
	}
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

// find waits for a span of the trace, beneath the parent (any, if nil).
func (c *collector) find(service, name string, trace, parent []byte) sentSpan {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	for {
		c.mu.Lock()
		var seen []string
		for _, s := range c.spans {
			if s.service == service && s.GetName() == name && bytes.Equal(s.GetTraceId(), trace) && (parent == nil || bytes.Equal(s.GetParentSpanId(), parent)) {
				c.mu.Unlock()
				return s
			}
			seen = append(seen, fmt.Sprintf("%s %q trace %x span %x parent %x", s.service, s.GetName(), s.GetTraceId(), s.GetSpanId(), s.GetParentSpanId()))
		}
		c.mu.Unlock()
		select {
		case <-c.arrived:
		case <-ctx.Done():
			c.t.Fatalf("there is no span %q of %s beneath %x; there are\n%s", name, service, parent, strings.Join(seen, "\n"))
		}
	}
}

func (c *collector) block(ratio string) string {
	return fmt.Sprintf("telemetry {\n traces {\n  endpoint = %q\n  sample_ratio = %s\n  headers_env = { X-Team = \"SOP_TEST_TEAM\" }\n }\n}\n", c.server.URL, ratio)
}

// A trace that a caller has begun goes on through the API, the door, the scan
// that it asked for and the store, into the plugin's process and the span that
// the plugin's author made; and the audit record names it.
func TestTraceGoesThroughToThePlugin(t *testing.T) {
	t.Setenv("SOP_TEST_TEAM", "hunter2")
	c := newCollector(t)
	s := newSite(t)
	s.configure(c.block("0")) // nothing but what a caller has begun
	s.lock()
	s.start()
	<-s.scans
	s.await("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	s.write("work/b.txt", "bad\n")

	const traceID, callerID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	req := connect.NewRequest(&apiv1.ScanWorkspaceRequest{Workspace: "main"})
	req.Header().Set("Traceparent", "00-"+traceID+"-"+callerID+"-01")
	if _, err := apiv1connect.NewWorkspaceClient(s.http(), "http://sop").ScanWorkspace(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	id, _ := hex.DecodeString(traceID)
	caller, _ := hex.DecodeString(callerID)
	call := c.find("sop", "sop.api.v1.Workspace/ScanWorkspace", id, caller)
	if call.GetKind() != tracev1.Span_SPAN_KIND_SERVER {
		t.Errorf("kind of the call: %v", call.GetKind())
	}
	door := c.find("sop", "authorize", id, call.GetSpanId())
	c.find("sop", "store transaction", id, door.GetSpanId()) // the record of the decision
	scan := c.find("sop", "scan", id, call.GetSpanId())
	c.find("sop", "store transaction", id, scan.GetSpanId())
	client := c.find("sop", "plugin detector.words Scan", id, scan.GetSpanId())
	server := c.find("detector.words", "/sop.plugin.v1.Detector/Scan", id, client.GetSpanId())
	look := c.find("detector.words", "look for words", id, server.GetSpanId())
	if server.GetKind() != tracev1.Span_SPAN_KIND_SERVER || server.GetStartTimeUnixNano() < client.GetStartTimeUnixNano() ||
		server.GetEndTimeUnixNano() > client.GetEndTimeUnixNano() || look.GetAttributes()[0].GetValue().GetStringValue() != "bad" {
		t.Errorf("client %v\nserver %v\nlook %v", client.Span, server.Span, look.Span)
	}
	c.mu.Lock()
	for _, span := range c.spans {
		if !bytes.Equal(span.GetTraceId(), id) {
			t.Errorf("a span of another trace: %v", span.Span)
		}
	}
	if c.headers.Get("X-Team") != "hunter2" {
		t.Errorf("headers: %v", c.headers)
	}
	c.mu.Unlock()
	list, err := apiv1connect.NewAuditClient(s.http(), "http://sop").ListRecords(t.Context(), connect.NewRequest(&apiv1.ListRecordsRequest{Selection: &apiv1.AuditFilter{Action: "access.workspace.scan"}}))
	if err != nil || len(list.Msg.GetRecords()) != 1 || list.Msg.GetRecords()[0].GetTraceId() != traceID {
		t.Errorf("records: %v, %v", list, err)
	}
}

// A call without a trace is given one; its id stands in the records.
func TestTraceBeginsHere(t *testing.T) {
	t.Setenv("SOP_TEST_TEAM", "a")
	c := newCollector(t)
	s := newSite(t)
	s.lock()
	s.start()
	<-s.scans
	s.configure(c.block("1")) // a reload turns it on
	s.await("on", func(st *apiv1.Status) bool {
		return st.GetLastReload().GetOk() && st.GetLastReload().GetTrigger() == "file change"
	})
	if _, err := apiv1connect.NewPluginClient(s.http(), "http://sop").RestartPlugin(t.Context(), connect.NewRequest(&apiv1.RestartPluginRequest{Id: "detector.words"})); err != nil {
		t.Fatal(err)
	}
	list, err := apiv1connect.NewAuditClient(s.http(), "http://sop").ListRecords(t.Context(), connect.NewRequest(&apiv1.ListRecordsRequest{Selection: &apiv1.AuditFilter{Action: "access.plugin.restart"}}))
	if err != nil || len(list.Msg.GetRecords()) != 1 {
		t.Fatal(list, err)
	}
	id, err := hex.DecodeString(list.Msg.GetRecords()[0].GetTraceId())
	if err != nil || len(id) != 16 {
		t.Fatalf("trace id %x, %v", id, err)
	}
	c.find("sop", "sop.api.v1.Plugin/RestartPlugin", id, nil)

	s.configure(c.block("0")) // from now on there is nothing to export
	s.reload()
	if n := value(s.scrape(), "sop_trace_spans_exported_total", ""); n < 1 {
		t.Errorf("%v spans counted after the traces were configured anew", n)
	}

	s.configure(strings.ReplaceAll(c.block("1"), "SOP_TEST_TEAM", "SOP_TEST_NOT_SET"))
	st := s.await("refused", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })
	if text := fmt.Sprint(st.GetLastReload().GetDiagnostics()); !strings.Contains(text, "SOP_TEST_NOT_SET") {
		t.Errorf("diagnostics: %s", text)
	}
}

// A collector that is down, and one that never answers, slow nothing down and
// fail nothing, and do not keep the host from stopping.
func TestCollectorDown(t *testing.T) {
	t.Setenv("SOP_TEST_TEAM", "a")
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hanging.Close()
	defer close(release)
	down := httptest.NewServer(nil)
	down.Close()
	for name, url := range map[string]string{"down": down.URL, "hanging": hanging.URL} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.configure(strings.ReplaceAll((&collector{server: &httptest.Server{URL: url}}).block("1"), "\t", ""))
			s.lock()
			s.start()
			<-s.scans
			client := apiv1connect.NewPluginClient(s.http(), "http://sop")
			begin := time.Now()
			const calls = 1200 // of two spans each: more than the queue holds
			for range calls {
				if _, err := client.ListPlugins(t.Context(), connect.NewRequest(&apiv1.ListPluginsRequest{})); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%v a call", time.Since(begin)/calls)
			begin = time.Now()
			s.end()
			if took := time.Since(begin); took > traceGrace+10*time.Second {
				t.Errorf("it took %v to stop", took)
			}
		})
	}
}
