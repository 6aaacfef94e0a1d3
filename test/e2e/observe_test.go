package e2e_test

import (
	"encoding/json"
	"os/exec"
	"strings"
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
