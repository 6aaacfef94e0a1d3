package e2e_test

import (
	"strconv"
	"strings"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// callback has the plugin ask something of its host during a scan, and returns
// what it says came of it.
func (h *host) callback(what string) string {
	h.t.Helper()
	h.write("hostile.mode", "call:"+what)
	for _, d := range h.scan().GetDiagnostics() {
		if rest, ok := strings.CutPrefix(d.GetMessage(), what+" "); ok && d.GetReason() == "CALLBACK" {
			return rest
		}
	}
	h.t.Errorf("the plugin did not say what came of %s: %v", what, lastScan(h.status()).GetDiagnostics())
	return ""
}

// A plugin asks the host for what the token of its call covers, and gets it.
func TestPluginCallsBack(t *testing.T) {
	t.Parallel()
	h := hostileHost(t)
	for _, what := range []string{"report", "report", "audit", "delegate", "validate", "consume"} {
		if got := h.callback(what); got != "ok=1" {
			t.Errorf("%s: %s", what, got)
		}
	}
	find(t, h.gaps("--rule", "hostile.bad"), "hostile.bad", "README.md") // one, however often it was reported
	records := h.must(0, "audit", "search", "--action", "plugin.test.done", "-o", "json").stdout
	for _, part := range []string{`"plugin:detector.hostile"`, `"as it was told"`, `"token"`} {
		if !strings.Contains(records, part) {
			t.Errorf("the record has no %s: %s", part, records)
		}
	}
	h.stopInTime()
}

// Without a token that covers it, a plugin gets nothing, and is told why no
// more than any other exterior agent; host and neighbour do not suffer.
func TestHostileCallback(t *testing.T) {
	t.Parallel()
	h := hostileHost(t)
	before := h.status()
	if got := h.callback("report"); got != "ok=1" {
		t.Fatal(got)
	}
	issue := func(args ...string) {
		token := decode[struct{ Secret string }](t, h.must(0, append([]string{"token", "issue", "--type", "operation", "-o", "json"}, args...)...))
		h.write("hostile.token", token.Secret)
	}
	const denied = "PermissionDenied/TOKEN_DENIED=1"
	for _, c := range []struct {
		name, what, want string
		given            []string
	}{
		{name: "of an earlier scan", what: "stale", want: denied},
		{name: "none", what: "no-token", want: denied},
		{name: "another agent's", what: "given", want: denied, given: []string{"--operation", "gap.report", "--protocol", "sop"}},
		{name: "for something else", what: "given", want: denied, given: []string{"--operation", "audit.append", "--protocol", "sop", "--requester", "plugin:detector.hostile"}},
		{name: "for the plugin", what: "given", want: "ok=1", given: []string{"--operation", "gap.report", "--protocol", "sop", "--requester", "plugin:detector.hostile"}},
		{name: "used up", what: "given", want: denied},
		{name: "to issue more", what: "issue", want: "PermissionDenied/"},
		{name: "to look at tokens", what: "show", want: "PermissionDenied/NOT_PERMITTED=1"},
		{name: "to list tokens", what: "list", want: "PermissionDenied/NOT_PERMITTED=1"},
		{name: "to renew tokens", what: "renew", want: "PermissionDenied/NOT_PERMITTED=1"},
		{name: "to revoke tokens", what: "revoke", want: "PermissionDenied/NOT_PERMITTED=1"},
		{name: "outside of the workspace", what: "nowhere", want: "InvalidArgument/FINDING_INVALID=1"},
	} {
		if c.given != nil {
			issue(c.given...)
		}
		if got := h.callback(c.what); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	after := h.status()
	neighbour(t, before, after)
	if p := plugin(after, "detector.hostile"); p.GetState() != "ready" || p.GetRestarts() != 0 {
		t.Errorf("the plugin is %s after %d restarts", p.GetState(), p.GetRestarts())
	}
	h.stopInTime()
}

// Token and rate bound how much a plugin can ask for; what is beyond is refused,
// and neither host nor neighbour suffers.
func TestCallbackFlood(t *testing.T) {
	t.Parallel()
	h := hostileHostWith(t, "good", strings.Replace(quick, `call_timeout  = "2s"`, `call_timeout  = "60s"`, 1))
	before := h.status()
	got := h.callback("flood")
	count := make(map[string]int)
	total := 0
	for _, field := range strings.Fields(got) {
		reason, n, _ := strings.Cut(field, "=")
		count[reason], _ = strconv.Atoi(n)
		total += count[reason]
	}
	refused := count["ResourceExhausted/RATE_LIMITED"] + count["PermissionDenied/TOKEN_DENIED"]
	if count["ok"] == 0 || count["ok"] > 1000 || refused == 0 || count["ok"]+refused != 1500 || total != 1500 {
		t.Errorf("of 1500 requests under a token of 1000 uses: %s", got)
	}
	after := h.waitFor("all is well", func(s *apiv1.Status) bool { return s.GetState() == "ok" })
	neighbour(t, before, after)
	h.remove("hostile.mode")
	reported(t, h.scan(), 0, 0, 0)
	h.stopInTime()
}
