package startup

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sop-host/sop/docs"
	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/token"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

func (s *site) get(path string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://sop"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.http().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// scrape reads the metrics as Prometheus does.
func (s *site) scrape() map[string]*dto.MetricFamily {
	s.t.Helper()
	status, text := s.get("/metrics")
	if status != http.StatusOK {
		s.t.Fatalf("%d: %s", status, text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	return families
}

// value returns the metric with exactly these labels, "a=1,b=2" by name: a
// value, or of a histogram the number of observations.
func value(families map[string]*dto.MetricFamily, name, labels string) float64 {
	for _, m := range families[name].GetMetric() {
		var has []string
		for _, l := range m.GetLabel() {
			has = append(has, l.GetName()+"="+l.GetValue())
		}
		if strings.Join(has, ",") != labels {
			continue
		}
		switch {
		case m.Counter != nil:
			return m.GetCounter().GetValue()
		case m.Histogram != nil:
			return float64(m.GetHistogram().GetSampleCount())
		}
		return m.GetGauge().GetValue()
	}
	return -1
}

// What a scrape says is what was done.
func TestMetrics(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	<-s.scans
	s.await("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	useTokens(t, s)
	for range 3 {
		if _, err := apiv1connect.NewPluginClient(s.http(), "http://sop").GetPlugin(t.Context(), connect.NewRequest(&apiv1.GetPluginRequest{Id: "none"})); connect.CodeOf(err) != connect.CodeNotFound {
			t.Fatal(err)
		}
	}
	if _, err := apiv1connect.NewHostClient(s.http(), "http://sop").Reload(t.Context(), connect.NewRequest(&apiv1.ReloadRequest{})); err != nil {
		t.Fatal(err)
	}
	if _, err := apiv1connect.NewAuditClient(s.http(), "http://sop").Verify(t.Context(), connect.NewRequest(&apiv1.VerifyRequest{})); err != nil {
		t.Fatal(err)
	}
	s.configure("plugin {")
	s.await("refused", func(st *apiv1.Status) bool { return !st.GetLastReload().GetOk() })

	got := s.scrape()
	for _, want := range []struct {
		name, labels string
		value        float64
	}{
		{"sop_api_calls_total", "code=not_found,method=sop.api.v1.Plugin/GetPlugin", 3},
		{"sop_api_call_duration_seconds", "method=sop.api.v1.Plugin/GetPlugin", 3},
		{"sop_api_calls_in_flight", "method=sop.api.v1.Plugin/GetPlugin", 0},
		{"sop_api_calls_total", "code=ok,method=sop.api.v1.Token/IssueToken", 1},
		{"sop_tokens_issued_total", "type=test", 1},
		{"sop_token_uses_total", "type=test", 2},
		{"sop_tokens_refused_total", "reason=TOKEN_EXHAUSTED,type=test", 1},
		{"sop_tokens_refused_total", "reason=TOKEN_MALFORMED,type=unknown", 1},
		{"sop_access_denied_total", "reason=TOKEN_MALFORMED", 1},
		{"sop_tokens", "state=completed,type=test", 1},
		{"sop_gaps", "severity=high,state=open,workspace=main", 1},
		{"sop_scans_total", "outcome=complete,workspace=main", 1},
		{"sop_scan_duration_seconds", "workspace=main", 1},
		{"sop_scan_files_total", "workspace=main", 1},
		{"sop_plugin_state", "plugin=detector.words,state=ready", 1},
		{"sop_plugin_state", "plugin=detector.words,state=failed", 0},
		{"sop_plugin_generation", "plugin=detector.words", 1},
		{"sop_plugin_restarts_total", "plugin=detector.words", 0},
		{"sop_plugin_call_failures_total", "plugin=detector.words", 0},
		{"sop_config_reloads_total", "outcome=ok", 1},
		{"sop_config_reloads_total", "outcome=refused", 1},
		{"sop_config_last_reload_successful", "", 0},
		{"sop_audit_verifications_total", "outcome=ok", 1},
		{"sop_audit_append_failures_total", "", 0},
		{"sop_store_commit_failures_total", "", 0},
		{"sop_host_state", "state=running", 1},
		{"sop_host_state", "state=stopping", 0},
		{"sop_host_degraded_reasons", "", 1},
		{"sop_trace_spans_exported_total", "", 0},
	} {
		if v := value(got, want.name, want.labels); v != want.value {
			t.Errorf("%s{%s} is %v, want %v", want.name, want.labels, v, want.value)
		}
	}
	for _, name := range []string{
		"sop_store_transaction_callers", "sop_store_commit_duration_seconds", "sop_audit_append_duration_seconds", "sop_audit_records",
		"sop_audit_last_checkpoint_timestamp_seconds", "sop_store_size_bytes", "sop_events_published_total", "process_resident_memory_bytes", "go_goroutines",
	} {
		if v := value(got, name, ""); v <= 0 {
			t.Errorf("%s is %v", name, v)
		}
	}
	if v := value(got, "sop_plugin_calls_total", "plugin=detector.words"); v < 1 {
		t.Errorf("calls to the plugin: %v", v)
	}
	// The host itself may be writing while it is asked.
	if v := value(got, "sop_store_writers", ""); v < 0 {
		t.Errorf("sop_store_writers is %v", v)
	}
	if f := got["sop_scrape_failed"]; f != nil {
		t.Errorf("not read: %v", f)
	}
}

// useTokens issues a token with two uses, uses it three times, and presents
// something else.
func useTokens(t *testing.T, s *site) {
	t.Helper()
	client := apiv1connect.NewTokenClient(s.http(), "http://sop")
	issued, err := client.IssueToken(t.Context(), connect.NewRequest(&apiv1.IssueTokenRequest{Spec: &apiv1.TokenSpec{
		Type: string(token.Test), Operations: []string{"run"}, MaxUses: 2,
	}}))
	if err != nil {
		t.Fatal(err)
	}
	for i, secret := range []string{issued.Msg.GetSecret(), issued.Msg.GetSecret(), issued.Msg.GetSecret(), "nonsense"} {
		_, err := client.ConsumeToken(t.Context(), connect.NewRequest(&apiv1.ConsumeTokenRequest{Secret: secret, Use: &apiv1.TokenUse{Operation: "run"}}))
		if (err == nil) != (i < 2) {
			t.Fatalf("use %d: %v", i, err)
		}
	}
}

// The state of the host is seen by everybody who asks for it, from the moment
// when it can be asked until it stops.
func TestHealth(t *testing.T) {
	s := newSite(t)
	s.start() // not locked: the plugin does not start
	s.await("degraded", func(st *apiv1.Status) bool { return st.GetState() == "degraded" })
	status, text := s.get("/readyz")
	var ready api.Readiness
	if err := json.Unmarshal([]byte(text), &ready); err != nil || status != http.StatusOK || ready.State != "degraded" || len(ready.Reasons) == 0 {
		t.Errorf("degraded: %d, %s, %v", status, text, err)
	}
	s.lock()
	s.await("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	if status, text := s.get("/readyz"); status != http.StatusOK || text != "{\"state\":\"ok\"}\n" {
		t.Errorf("ok: %d, %s", status, text)
	}
	if status, _ := s.get("/healthz"); status != http.StatusOK {
		t.Errorf("alive: %d", status)
	}
	for _, protocol := range []connect.ClientOption{connect.WithGRPC(), connect.WithProtoJSON()} {
		check := connect.NewClient[grpc_health_v1.HealthCheckRequest, grpc_health_v1.HealthCheckResponse](s.h2(), "http://sop/grpc.health.v1.Health/Check", protocol)
		for _, service := range []string{"", "sop.api.v1.Gap", "grpc.health.v1.Health"} {
			resp, err := check.CallUnary(t.Context(), connect.NewRequest(&grpc_health_v1.HealthCheckRequest{Service: service}))
			if err != nil || resp.Msg.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Errorf("%q: %v, %v", service, resp, err)
			}
		}
		if _, err := check.CallUnary(t.Context(), connect.NewRequest(&grpc_health_v1.HealthCheckRequest{Service: "none"})); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("unknown service: %v", err)
		}
	}
	watch := connect.NewClient[grpc_health_v1.HealthCheckRequest, grpc_health_v1.HealthCheckResponse](s.h2(), "http://sop/grpc.health.v1.Health/Watch", connect.WithGRPC())
	stream, err := watch.CallServerStream(t.Context(), connect.NewRequest(&grpc_health_v1.HealthCheckRequest{}))
	if err != nil || !stream.Receive() || stream.Msg().GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("watch: %v, %v", err, stream)
	}
	s.end()
	var last grpc_health_v1.HealthCheckResponse_ServingStatus
	for stream.Receive() {
		last = stream.Msg().GetStatus()
	}
	if last != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("when it stopped: %v, %v", last, stream.Err())
	}
	_ = stream.Close() // the host has gone
}

// h2 returns a client that speaks HTTP/2 without TLS, as gRPC does.
func (s *site) h2() *http.Client {
	client := s.http()
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		s.t.Fatal("another transport")
	}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	return client
}

// What cannot be written to is not ready, and says why.
func TestNotReady(t *testing.T) {
	p := &probe{}
	full := errors.New("disk full")
	tries := 0
	try := func(context.Context) error { tries++; return full }
	if err := p.writable(t.Context(), try); !errors.Is(err, full) {
		t.Error(err)
	}
	if err := p.writable(t.Context(), func(context.Context) error { tries++; return nil }); !errors.Is(err, full) || tries != 1 {
		t.Errorf("asked again at once: %v, %d", err, tries)
	}
	p.at = p.at.Add(-probeEvery)
	if err := p.writable(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}

	h := &host{}
	for _, phase := range []string{phaseStarting, phaseStopping} {
		h.setPhase(phase)
		if r := h.Readiness(t.Context()); r.Ready || r.State != phase || len(r.Reasons) != 1 {
			t.Errorf("%s: %+v", phase, r)
		}
	}
}

// The host lists what it serves, each service is served, and the document of
// the API is the one that was checked in.
func TestReflection(t *testing.T) {
	s := newSite(t)
	s.lock()
	s.start()
	client := grpcreflect.NewClient(s.h2(), "http://sop", connect.WithGRPC())
	stream := client.NewStream(t.Context())
	names, err := stream.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sop.api.v1.Host", "sop.api.v1.Token", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} {
		if !slices.ContainsFunc(names, func(n protoreflect.FullName) bool { return string(n) == want }) {
			t.Errorf("%s is not listed: %v", want, names)
		}
	}
	for _, name := range names {
		files, err := stream.FileContainingSymbol(name)
		if err != nil || len(files) == 0 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.HasPrefix(string(name), "sop.") {
			service := files[0]
			for _, f := range files {
				if len(f.GetService()) > 0 && strings.HasSuffix(string(name), "."+f.GetService()[0].GetName()) {
					service = f
				}
			}
			method := service.GetService()[0].GetMethod()[0].GetName()
			if status, _ := s.get("/" + string(name) + "/" + method); status == http.StatusNotFound {
				t.Errorf("%s/%s is listed and not served", name, method)
			}
		}
	}
	if _, err := stream.Close(); err != nil {
		t.Error(err)
	}
	if status, text := s.get("/openapi.json"); status != http.StatusOK || text != string(docs.OpenAPI) {
		t.Errorf("the document: %d, %d bytes", status, len(text))
	}
}
