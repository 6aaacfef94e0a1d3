package e2e_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// incomplete asserts that a scan says which detector failed and why, and has
// concluded nothing.
func incomplete(t *testing.T, scan *apiv1.ScanReport, why string) {
	t.Helper()
	if scan.GetComplete() || scan.GetResolved() != 0 {
		t.Errorf("complete %v, resolved %d", scan.GetComplete(), scan.GetResolved())
	}
	for _, d := range scan.GetDiagnostics() {
		if d.GetDetector() == "hostile" && d.GetReason() == "DETECTOR_FAILED" && strings.Contains(d.GetMessage(), why) {
			return
		}
	}
	t.Errorf("no diagnostic says %q: %v", why, scan.GetDiagnostics())
}

// What a detector can do to a scan: the scan ends in time, says what happened,
// resolves nothing, and the next one is as it should be.
func TestHostileScan(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode    string
		why     string // in the scan's diagnostics
		reason  string // of the plugin's last error; empty: it lives on
		restart int32
		patient bool // a longer call_timeout
	}{
		{mode: "panic", why: "as it was told", reason: "PLUGIN_CRASHED", restart: 1},
		{mode: "exit", why: "exit status 7", reason: "PLUGIN_CRASHED", restart: 1},
		{mode: "hang", why: "did not answer"},
		{mode: "wait", why: "did not answer"},
		{mode: "huge", why: "larger than max", patient: true},
		{mode: "endless", why: "more than", patient: true},
		{mode: "silent-stream", why: "did not answer"},
		{mode: "utf8", why: "UTF-8"},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			deadline, settings := callDeadline, quick
			if c.patient { // the plugin takes its time to do it
				deadline = 20 * time.Second
				settings = strings.Replace(quick, `call_timeout  = "2s"`, `call_timeout  = "20s"`, 1)
			}
			h := hostileHostWith(t, "good", settings)
			before := h.status()
			h.write("a.bad", "") // mended, which a broken scan must not conclude
			h.write("hostile.mode", c.mode)
			begin := time.Now()
			report := h.scan()
			if took := time.Since(begin); took > deadline+allowance {
				t.Errorf("the scan took %v", took)
			}
			incomplete(t, report, c.why)
			if n := len(h.gaps("--rule", "hostile.bad")); n != 1 {
				t.Errorf("%d gaps after the broken scan", n)
			}
			after := h.waitFor("the plugin is in service", func(st *apiv1.Status) bool {
				p := plugin(st, "detector.hostile")
				return p.GetState() == "ready" && p.GetRestarts() == c.restart
			})
			neighbour(t, before, after)
			if after.GetState() != "degraded" || !strings.Contains(strings.Join(after.GetReasons(), " "), "not complete") {
				t.Errorf("%s: %v", after.GetState(), after.GetReasons())
			}
			e := plugin(after, "detector.hostile").GetLastError()
			if e.GetReason() != c.reason || c.reason != "" && e.GetRemedy() == "" {
				t.Errorf("the status says %v, want %s", e, c.reason)
			}
			if r := h.must(3, "status"); !strings.Contains(r.stdout, c.why) || !strings.Contains(r.stdout, "remedy") {
				t.Errorf("the status for people names no cause (%s) or no remedy: %v", c.why, r)
			}
			if !strings.Contains(scanTrouble(h), "remedy") {
				t.Errorf("the status names no remedy: %s", scanTrouble(h))
			}
			if n := peak(t, h.pid()); n > hostMemory {
				t.Errorf("the host took %d MiB", n>>20)
			}
			h.remove("hostile.mode")
			reported(t, h.scan(), 0, 0, 1)
			if st := h.status(); st.GetState() != "ok" {
				t.Errorf("after a good scan: %s: %v", st.GetState(), st.GetReasons())
			}
			h.stopInTime()
		})
	}
}

// scanTrouble is what the JSON of the status says about the last scan, or about
// the plugin's last error.
func scanTrouble(h *host) string {
	h.t.Helper()
	status := decode[struct {
		Plugins []struct {
			ID        string          `json:"id"`
			LastError json.RawMessage `json:"last_error"`
		}
		Workspaces []struct {
			LastScan struct {
				Diagnostics json.RawMessage
			} `json:"last_scan"`
		}
	}](h.t, h.must(3, "status", "-o", "json"))
	out := string(status.Workspaces[0].LastScan.Diagnostics)
	for _, p := range status.Plugins {
		if p.ID == "detector.hostile" {
			out += string(p.LastError)
		}
	}
	return out
}

// Findings at paths that are none are not accepted; the rest of the scan is.
func TestInvalidPaths(t *testing.T) {
	t.Parallel()
	h := hostileHost(t)
	before := h.status()
	h.write("b.bad", "bad\n")
	h.write("hostile.mode", "paths")
	report := h.scan()
	reported(t, report, 1, 0, 0)
	rejected := 0
	for _, d := range report.GetDiagnostics() {
		if d.GetReason() == "FINDING_REJECTED" && d.GetDetector() == "hostile" {
			rejected++
		}
	}
	if rejected != 10 {
		t.Errorf("%d findings were rejected, want 10: %v", rejected, report.GetDiagnostics())
	}
	gaps := h.gaps("--rule", "hostile.bad")
	if got := strings.Join(places(gaps), ", "); got != "hostile.bad a.bad:1, hostile.bad b.bad:1" {
		t.Errorf("gaps: %s", got)
	}
	neighbour(t, before, h.status())
	h.stopInTime()
}
