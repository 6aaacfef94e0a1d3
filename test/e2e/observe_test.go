package e2e_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// curl asks the host as an operator would, and returns the answer and its status.
func (h *host) curl(path string) (string, string) {
	h.t.Helper()
	program, err := exec.LookPath("curl")
	if err != nil {
		h.t.Skip("there is no curl")
	}
	out, err := exec.CommandContext(h.t.Context(), program, "--silent", "--show-error", "--unix-socket", h.socket(),
		"--write-out", "\n%{http_code}", "http://sop"+path).Output()
	if err != nil {
		h.t.Fatalf("curl %s: %v", path, err)
	}
	at := strings.LastIndexByte(string(out), '\n')
	return string(out[:at]), string(out[at+1:])
}

// An operator asks with curl whether the host is ready, what it counts and what
// its API looks like.
func TestCurl(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	s.lock()
	h := s.up()
	h.waitFor("ok", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	if text, status := h.curl("/readyz"); status != "200" || strings.TrimSpace(text) != `{"state":"ok"}` {
		t.Errorf("ready: %s, %s", status, text)
	}
	text, status := h.curl("/metrics")
	for _, want := range []string{
		`sop_host_state{state="running"} 1`, `sop_plugin_state{plugin="detector.docs",state="ready"} 1`,
		`sop_api_calls_total{code="ok",method="sop.api.v1.Host/GetStatus"}`, "sop_build_info{", "process_open_fds ",
	} {
		if status != "200" || !strings.Contains(text, want) {
			t.Errorf("metrics lack %s: %s, %s", want, status, clip(text))
		}
	}
	served, status := h.curl("/openapi.json")
	if printed := s.must(0, "api", "openapi").stdout; status != "200" || served != printed || !json.Valid([]byte(served)) {
		t.Errorf("the document that is served is not the one that is printed: %s, %d and %d bytes", status, len(served), len(printed))
	}
	h.stop()
}

// arpConfigured joins the example's ARP, a program on standard streams.
func arpConfigured() string {
	return fmt.Sprintf(`
plugin "protocol" "arp" {
  command = "${path.plugins}/protocol-exec"
  config {
    command    = [%q]
    operations = ["analyze"]
  }
}

protocol "arp" {
}
`, filepath.Join(shelf, "bin", "stack", "arp"))
}

// Metrics tell of components, protocols and tasks as they stand, and count on.
func TestMetricsOfTheStack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure(arpConfigured(), shellComponent("base", "exec sleep 300", `readiness { exec = ["/bin/true"] }`),
		shellComponent("idle", "exec sleep 300", `activation = "on_demand"`))
	s.lock()
	h := s.up()
	h.waitFor("base", stateOf("base", "ready"))
	s.must(0, "protocol", "activate", "arp")
	s.must(0, "task", "create", "Explain it", "--workspace", "main", "--target", "README.md", "--goal", "A reader knows.")
	secret := strings.TrimSpace(s.must(0, "token", "issue", "--type", "operation", "--protocol", "arp", "--operation", "analyze", "--uses", "2", "-o", "json").stdout)
	token := filepath.Join(s.home(), "token")
	s.put(token, decode[struct{ Secret string }](t, result{stdout: secret}).Secret)
	s.must(0, "protocol", "call", "arp", "analyze", "--payload", `{"gaps": []}`, "--token-file", token)
	if r := s.sop("protocol", "call", "arp", "analyze", "--payload", `{"gaps": 7}`, "--token-file", token); r.code == 0 {
		t.Errorf("what is no list of gaps was analysed: %v", r)
	}
	kill(t, component(h.status(), "base").GetPid(), syscall.SIGKILL)
	h.waitFor("base is back", func(st *apiv1.Status) bool {
		return component(st, "base").GetRestarts() == 1 && component(st, "base").GetState() == "ready"
	})
	text, status := h.curl("/metrics")
	for _, want := range []string{
		`sop_component_state{component="base",state="ready"} 1`, `sop_component_state{component="base",state="failed"} 0`,
		`sop_component_state{component="idle",state="idle"} 1`, `sop_component_restarts_total{component="base"} 1`,
		`sop_component_last_probe_successful{component="base"} 1`, `sop_component_dropped_log_lines_total{component="base"} 0`,
		`sop_protocol_state{protocol="arp",state="active"} 1`, `sop_protocol_calls_total{protocol="arp"} 2`,
		`sop_protocol_call_failures_total{protocol="arp"} 1`, `sop_protocol_calls_in_flight{protocol="arp"} 0`,
		`sop_tasks{kind="manual",state="ready",workspace="main"} 1`,
	} {
		if status != "200" || !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s: %s", want, status)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "sop_component") || strings.HasPrefix(line, "sop_protocol") || strings.HasPrefix(line, "sop_tasks") {
				t.Log(line)
			}
		}
	}
	h.stop()
}

// Traces to a collector that is not there keep nothing from working, and stand
// in the log once.
func TestCollectorIsNotThere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", "")
	s.configure("telemetry {\n  traces {\n    endpoint     = \"http://127.0.0.1:9\"\n    sample_ratio = 1\n  }\n}\n")
	s.lock()
	h := s.up()
	if r := h.scan(); r.GetError() != "" || !r.GetComplete() {
		t.Errorf("scan: %v", r)
	}
	h.stopInTime()
	if log := s.read(s.data + "/logs/host.log"); strings.Count(log, "spans could not be exported") > 1 {
		t.Errorf("log:\n%s", log)
	}
}

// What the last verification of the audit log found is known after a restart.
func TestVerificationIsRemembered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.configure()
	s.lock()
	h := s.up()
	if r := s.must(0, "status"); !strings.Contains(r.stdout, "not verified yet") {
		t.Errorf("%v", r)
	}
	s.must(0, "audit", "verify")
	at := h.status().GetAudit().GetVerifiedAt().AsTime()
	h.stopInTime()
	h = s.up()
	if a := h.status().GetAudit(); a.GetVerified() != "ok" || !a.GetVerifiedAt().AsTime().Equal(at) || at.IsZero() {
		t.Errorf("verified at %v: %v", at, a)
	}
	h.stopInTime()
}
