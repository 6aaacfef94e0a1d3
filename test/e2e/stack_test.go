package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// stackMark is where the stack begins in the default configuration.
const stackMark = "# The stack that SOP is the hub of"

// defaultStack is the stack of the default configuration, as `make run` brings it
// online, with edits that a test would otherwise have to wait for.
func defaultStack(t *testing.T, s *site, edits ...string) string {
	t.Helper()
	text := s.read(filepath.Join(repository, "config.hcl"))
	at := strings.Index(text, stackMark)
	if at < 0 {
		t.Fatalf("config.hcl does not contain %q any more", stackMark)
	}
	out := strings.NewReplacer(edits...).Replace(text[at:])
	for i := 1; i < len(edits); i += 2 {
		if !strings.Contains(out, edits[i]) {
			t.Fatalf("the stack does not contain %q any more", edits[i-1])
		}
	}
	return out
}

// protocolLine is what `sop protocol list -o json` says of one.
type protocolLine struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	SelfTest string `json:"self_test"`
	Calls    int    `json:"calls"`
	Detail   string `json:"detail"`
}

// protocols lists all protocols, by name.
func (h *host) protocols() map[string]protocolLine {
	h.t.Helper()
	all := make(map[string]protocolLine)
	for _, p := range decode[struct{ Protocols []protocolLine }](h.t, h.must(0, "protocol", "list", "-o", "json")).Protocols {
		all[p.Name] = p
	}
	return all
}

// awaitProtocols waits until the protocols are in these states.
func (h *host) awaitProtocols(want map[string]string) {
	h.t.Helper()
	var all map[string]protocolLine
	if !eventually(patience, func() bool {
		all = h.protocols()
		for name, state := range want {
			if all[name].State != state {
				return false
			}
		}
		return true
	}) {
		h.t.Fatalf("the protocols are %+v, want %v", all, want)
	}
}

// tokenFile has a token issued and returns the file that its secret is in.
func (s *site) tokenFile(protocol, operation, requester string) string {
	s.t.Helper()
	token := decode[struct{ Secret string }](s.t, s.must(0, "token", "issue", "--type", "operation", "--protocol", protocol,
		"--operation", operation, "--requester", requester, "--uses", "1", "-o", "json"))
	path := filepath.Join(s.dir, protocol+"-"+operation+".token")
	s.put(path, token.Secret)
	return path
}

// upStack brings the default stack online.
func upStack(t *testing.T, edits ...string) *host {
	t.Helper()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure(defaultStack(t, s, edits...))
	s.lock()
	h := s.up()
	h.awaitProtocols(map[string]string{"arp": "active", "scp": "active", "uip": "inactive"})
	return h
}

// The default stack comes online, each protocol is called under a token and not
// without one, and nothing of it is left.
func TestStack(t *testing.T) {
	t.Parallel()
	h := upStack(t)
	if st := h.status(); st.GetState() != "ok" || component(st, "scp").GetState() != "ready" {
		t.Errorf("state %s: %v", st.GetState(), st.GetReasons())
	}
	for _, name := range []string{"arp", "scp"} {
		if p := h.protocols()[name]; p.SelfTest != "passed" {
			t.Errorf("%+v", p)
		}
	}
	whoami := decode[struct{ Name string }](t, h.must(0, "agent", "whoami", "-o", "json")).Name
	for _, c := range []struct{ protocol, operation, payload, want string }{
		{"scp", "learn", `{"facts": [{"subject": "a.go", "text": "was written in a hurry"}]}`, `"known": 1`},
		{"arp", "analyze", `{"gaps": [{"id": "1", "severity": "high", "path": "a.go", "rule": "code.stub"}]}`, `"total": 1`},
		// UIP asks both of the others, through the host.
		{"uip", "render", `{"gaps": [{"id": "1", "severity": "high", "path": "a.go", "rule": "code.stub"}]}`, "was written in a hurry"},
	} {
		call := []string{"protocol", "call", c.protocol, c.operation, "--payload", c.payload}
		if r := h.postProtocol(c.protocol, c.operation, c.payload); !strings.Contains(r, "TOKEN_MISSING") {
			t.Errorf("%s without a token: %s", c.protocol, r)
		}
		given := append(call, "--token-file", h.tokenFile(c.protocol, c.operation, whoami)) //nolint:gocritic // a copy is meant
		if r := h.must(0, given...); !strings.Contains(r.stdout, c.want) {
			t.Errorf("no %s: %v", c.want, r)
		}
		if r := h.must(4, given...); !strings.Contains(r.stderr, "TOKEN") && !strings.Contains(r.stderr, "token") {
			t.Errorf("%s with a token that is used up: %v", c.protocol, r)
		}
	}
	// What UIP asked of the others is on record as theirs.
	for _, inner := range []string{"protocol/arp", "protocol/scp"} {
		r := h.must(0, "audit", "search", "--actor", "plugin:protocol.uip", "--action", "protocol.call", "--resource", inner, "-o", "json")
		if !strings.Contains(r.stdout, `"`+inner) {
			t.Errorf("no record of a call of %s by uip: %v", inner, r)
		}
	}
	h.bootTokens()
	h.stopInTime()
	h.noProcesses()
	if left, err := filepath.Glob(filepath.Join(h.data, "*.sock")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// postProtocol calls a protocol as a program does that presents no token, and
// returns what it is told.
func (h *host) postProtocol(protocol, operation, payload string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.socket())
	}}
	defer transport.CloseIdleConnections()
	body := fmt.Sprintf(`{"protocol": %q, "operation": %q, "payload": %q}`, protocol, operation, payload)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sop/sop.api.v1.Protocol/CallProtocol", strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

// bootTokens asserts that each protocol was tested under a test token before it
// got its operation token.
func (h *host) bootTokens() {
	h.t.Helper()
	type token struct {
		Type, State, Requester, Protocol string
		Uses                             int
	}
	all := decode[struct{ Tokens []token }](h.t, h.must(0, "token", "list", "-o", "json")).Tokens
	slices.Reverse(all) // oldest first
	for _, name := range []string{"arp", "scp"} {
		var types []string
		for _, tk := range all {
			switch {
			case tk.Requester != "plugin:protocol."+name:
			case tk.Type == "test" && tk.Protocol == name && tk.Uses == 1, tk.Type == "operation" && tk.Protocol == "sop" && tk.State == "active":
				types = append(types, tk.Type)
			}
		}
		if !slices.Equal(types, []string{"test", "operation"}) {
			h.t.Errorf("%s was given %v", name, types)
		}
	}
}

// UIP comes up with its first call, after those that it depends on, and is taken
// out again when nobody calls.
func TestStackOnDemand(t *testing.T) {
	t.Parallel()
	h := upStack(t, `idle_stop  = "5m"`, `idle_stop  = "1s"`)
	for range 2 {
		if r := h.must(0, "protocol", "call", "uip", "render", "--payload", `{"gaps": []}`); !strings.Contains(r.stdout, "0 gaps") {
			t.Errorf("%v", r)
		}
		h.awaitProtocols(map[string]string{"uip": "inactive", "arp": "active", "scp": "active"})
	}
	if n := h.protocols()["uip"].Calls; n != 2 {
		t.Errorf("uip was called %d times", n)
	}
	ready := 0
	for _, l := range h.timeline() {
		if l.Component == "protocol uip" && l.Phase == "ready" {
			ready++
		}
	}
	if ready != 2 {
		t.Errorf("uip came up %d times for two calls", ready)
	}
	h.stopInTime()
}

// A service that is killed comes back at once; one that is killed again shows as
// such until it is back, and who calls it meanwhile is told.
func TestStackRecovers(t *testing.T) {
	t.Parallel()
	h := upStack(t, "  dir     = path.data\n", "  dir     = path.data\n  restart {\n    backoff_min = \"3s\"\n  }\n")
	recall := []string{"protocol", "call", "scp", "recall", "--payload", `{"terms": ["x"]}`}
	h.must(0, recall...)
	killSCP := func() {
		t.Helper()
		kill(t, component(h.status(), "scp").GetPid(), syscall.SIGKILL)
	}
	backAfter := func(restarts int32) func(*apiv1.Status) bool {
		return func(st *apiv1.Status) bool {
			c := component(st, "scp")
			return st.GetState() == "ok" && c.GetState() == "ready" && c.GetRestarts() == restarts
		}
	}
	killSCP()
	h.waitFor("it is back", backAfter(1))
	h.must(0, recall...)
	killSCP()
	st := h.waitFor("it shows", func(st *apiv1.Status) bool { return st.GetState() == "degraded" })
	if !slices.ContainsFunc(st.GetReasons(), func(r string) bool { return strings.Contains(r, "component scp is") }) {
		t.Errorf("degraded for %v", st.GetReasons())
	}
	if r := h.sop(append(recall, "--timeout", "500ms")...); r.code == 0 || !strings.Contains(r.stderr, "remedy:") {
		t.Errorf("the service is gone, and: %v", r)
	}
	h.waitFor("it is back again", backAfter(2))
	h.must(0, recall...)
	h.stopInTime()
	h.noProcesses()
}

// The configuration of `make run` is valid as a whole.
func TestDefaultConfiguration(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(s.conf, s.read(filepath.Join(repository, "config.hcl")))
	s.must(0, "validate", "--config", s.conf)
}
