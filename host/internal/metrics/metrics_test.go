package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// filled is a state in which there is something of everything.
func filled(context.Context) State {
	return State{
		Host: "running", HostStates: []string{"starting", "running"}, Degraded: 1,
		Gaps: []Gaps{{"main", "open", "high", 2}}, Tokens: []Tokens{{"test", "active", 3}},
		Plugins: []Plugin{{ID: "detector.docs", State: "ready", Generation: 2, Busy: time.Second}}, PluginStates: []string{"ready", "failed"},
		Components: []Component{{Name: "db", State: "ready", Restarts: 1, Probed: true, Passed: true}}, ComponentStates: []string{"ready", "failed"},
		Protocols: []Protocol{{Name: "arp", State: "active", Calls: 3, Failures: 1}}, ProtocolStates: []string{"active", "failed"},
		Tasks:  []Tasks{{"main", "gap", "ready", 4}},
		Unread: []string{"store"},
	}
}

// fill makes something of everything happen.
func fill(m *Metrics) {
	m.CallStarted("s/M")
	m.CallEnded("s/M", "ok", time.Millisecond)
	m.ConnectionOpened("socket")
	m.ConnectionClosed("socket")
	m.ConnectionRefused("tcp")
	m.Denied("NOBODY")
	m.TokenIssued("test")
	m.TokenUsed("test")
	m.TokenRefused("", "TOKEN_MALFORMED")
	m.Scanned("main", "complete", time.Second, 3)
	m.Committed(4, time.Millisecond, errors.New("disk full"))
	m.Appended(time.Millisecond, nil)
	m.Verified("ok", time.Second)
	m.Signed(time.Unix(1, 0))
	m.Reloaded(true, time.Millisecond)
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(filled).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// Every metric that is defined is told, with its type, help and labels, and
// follows the conventions; and what is told is defined.
func TestDefinitions(t *testing.T) {
	m := New("1.2.3")
	fill(m)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(scrape(t, m)))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^sop_[a-z_]+$`)
	defined := make(map[string]bool)
	for _, d := range Definitions() {
		f := families[d.Name]
		if f == nil {
			t.Errorf("%s is not told", d.Name)
			continue
		}
		if defined[d.Name] || !name.MatchString(d.Name) || strings.HasSuffix(d.Name, "_total") != (d.Type == Counter) ||
			strings.Contains(d.Name, "duration") && !strings.HasSuffix(d.Name, "_seconds") || !strings.HasSuffix(d.Help, ".") {
			t.Errorf("%s, %s, %q is not as the conventions want it", d.Name, d.Type, d.Help)
		}
		defined[d.Name] = true
		if got := strings.ToLower(f.GetType().String()); got != string(d.Type) || f.GetHelp() != d.Help {
			t.Errorf("%s is a %s: %s", d.Name, got, f.GetHelp())
		}
		if got := len(f.GetMetric()[0].GetLabel()); got != len(d.Labels) {
			t.Errorf("%s has %d labels, want %v", d.Name, got, d.Labels)
		}
	}
	for name := range families {
		if strings.HasPrefix(name, "sop_") && !defined[name] {
			t.Errorf("%s is not defined", name)
		}
	}
}

// The table for operators is the one that the definitions make.
func TestDocumentation(t *testing.T) {
	const path, begin, end = "../../../docs/observability.md", "<!-- metrics -->\n", "<!-- /metrics -->"
	var table strings.Builder
	table.WriteString("| metric | type | labels | what it says |\n|---|---|---|---|\n")
	for _, d := range Definitions() {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", d.Name, d.Type, strings.Join(d.Labels, ", "), d.Help)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(page), begin)
	got, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the table", path)
	}
	if got == table.String() {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("the table in %s is stale; write it with: UPDATE=1 go test ./host/internal/metrics", path)
	}
	if err := os.WriteFile(path, []byte(head+begin+table.String()+end+tail), 0o600); err != nil {
		t.Fatal(err)
	}
}

// However many reasons there are, there are only so many labels.
func TestReasonsAreBounded(t *testing.T) {
	m := New("test")
	for i := range 10 * maxReasons {
		m.Denied(fmt.Sprintf("REASON_%d", i))
	}
	m.Denied("")
	m.Denied("REASON_1")
	text := scrape(t, m)
	if n := strings.Count(text, "sop_access_denied_total{"); n != maxReasons+1 {
		t.Errorf("%d labels", n)
	}
	if !strings.Contains(text, fmt.Sprintf("sop_access_denied_total{reason=%q} %d\n", otherReason, 9*maxReasons+1)) ||
		!strings.Contains(text, "sop_access_denied_total{reason=\"REASON_1\"} 2\n") {
		t.Error(text)
	}
}

// Too many scrapes at once are refused.
func TestScrapesAreBounded(t *testing.T) {
	m := New("test")
	begun, release := make(chan struct{}), make(chan struct{})
	handler := m.Handler(func(context.Context) State {
		begun <- struct{}{}
		<-release
		return State{}
	})
	ended := make(chan struct{})
	for range maxScrapes {
		go func() {
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
			ended <- struct{}{}
		}()
		<-begun
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one too many: %d", w.Code)
	}
	close(release)
	for range maxScrapes {
		<-ended
	}
}

// BenchmarkCall is what counting adds to a call of the API.
func BenchmarkCall(b *testing.B) {
	m := New("test")
	b.ReportAllocs()
	for b.Loop() {
		m.CallStarted("sop.api.v1.Token/ConsumeToken")
		m.CallEnded("sop.api.v1.Token/ConsumeToken", "ok", time.Millisecond)
	}
}

// BenchmarkCallParallel is the same from all processors at once.
func BenchmarkCallParallel(b *testing.B) {
	m := New("test")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.CallStarted("sop.api.v1.Token/ConsumeToken")
			m.CallEnded("sop.api.v1.Token/ConsumeToken", "ok", time.Millisecond)
		}
	})
}
