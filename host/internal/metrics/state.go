package metrics

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// State is how things stand at one moment.
type State struct {
	// Host is the state that the host is in, of HostStates.
	Host       string
	HostStates []string
	Degraded   int // reasons
	Gaps       []Gaps
	Tokens     []Tokens
	// Plugins, each in one of PluginStates.
	Plugins      []Plugin
	PluginStates []string
	// Components, each in one of ComponentStates, and protocols likewise.
	Components      []Component
	ComponentStates []string
	Protocols       []Protocol
	ProtocolStates  []string
	Tasks           []Tasks
	Store           Store
	Audit           Audit
	Events          Events
	Spans           Spans
	// Unread names the parts that could not be read; they are left out.
	Unread []string
}

// Gaps is how many gaps of a workspace have a state and a severity.
type Gaps struct {
	Workspace, State, Severity string
	Count                      int
}

// Tokens is how many tokens of a type are in a state.
type Tokens struct {
	Type, State string
	Count       int
}

// Plugin is how a plugin stands.
type Plugin struct {
	ID, State            string
	Generation, Restarts int
	Calls, Failures      int64
	InFlight             int64
	Busy                 time.Duration
	DroppedLogLines      int64
}

// Component is how a component stands.
type Component struct {
	Name, State  string
	Restarts     int
	Probed       bool // it was probed at least once
	Passed       bool // the last time
	DroppedLines int64
}

// Protocol is how a protocol stands.
type Protocol struct {
	Name, State              string
	Calls, Failures, Refused int64
	InFlight, Waiting        int
}

// Tasks is how many tasks of a workspace and a kind are in a state.
type Tasks struct {
	Workspace, Kind, State string
	Count                  int
}

// Store is how the database stands.
type Store struct {
	Writers int64
	Size    int64 // bytes
}

// Audit is how the log stands.
type Audit struct {
	Records       uint64
	Waiting, Lost int
}

// Events is what has passed the bus.
type Events struct {
	Published, Lagged      uint64
	Subscriptions, Deepest int
}

// Spans is what became of spans.
type Spans struct{ Exported, Failed int64 }

// readTime bounds how long an answer may take to read.
const readTime = 10 * time.Second

// Handler returns what answers a scrape; read says how things stand.
func (m *Metrics) Handler(read func(ctx context.Context) State) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case m.scrapes <- struct{}{}:
			defer func() { <-m.scrapes }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many scrapes at once", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readTime)
		defer cancel()
		state := prometheus.NewRegistry()
		state.MustRegister(&collector{read(ctx)})
		promhttp.HandlerFor(prometheus.Gatherers{m.registry, state}, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// collector turns one State into metrics.
type collector struct{ state State }

// Describe implements [prometheus.Collector]: what there is depends on the state.
func (*collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(out chan<- prometheus.Metric) {
	put := func(d Definition, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d.desc(), d.valueType(), value, labels...)
	}
	s := &c.state
	for _, name := range s.HostStates {
		put(defState, truth(name == s.Host), name)
	}
	put(defDegraded, float64(s.Degraded))
	for _, part := range s.Unread {
		put(defUnread, 1, part)
	}
	for _, g := range s.Gaps {
		put(defGaps, float64(g.Count), g.Workspace, g.State, g.Severity)
	}
	for _, t := range s.Tokens {
		put(defTokens, float64(t.Count), t.Type, t.State)
	}
	for i := range s.Plugins {
		s.Plugins[i].collect(s.PluginStates, put)
	}
	for i := range s.Components {
		s.Components[i].collect(s.ComponentStates, put)
	}
	for i := range s.Protocols {
		s.Protocols[i].collect(s.ProtocolStates, put)
	}
	for _, t := range s.Tasks {
		put(defTasks, float64(t.Count), t.Workspace, t.Kind, t.State)
	}
	put(defStoreWaiting, float64(s.Store.Writers))
	put(defStoreSize, float64(s.Store.Size))
	put(defAuditRecords, float64(s.Audit.Records))
	put(defQueueDepth, float64(s.Audit.Waiting))
	put(defQueueLost, float64(s.Audit.Lost))
	put(defPublished, float64(s.Events.Published))
	put(defLagged, float64(s.Events.Lagged))
	put(defSubscriptions, float64(s.Events.Subscriptions))
	put(defDeepest, float64(s.Events.Deepest))
	put(defSpans, float64(s.Spans.Exported))
	put(defSpansFailed, float64(s.Spans.Failed))
}

func (c *Component) collect(states []string, put func(d Definition, value float64, labels ...string)) {
	for _, name := range states {
		put(defComponentState, truth(name == c.State), c.Name, name)
	}
	put(defComponentRestarts, float64(c.Restarts), c.Name)
	if c.Probed {
		put(defComponentProbe, truth(c.Passed), c.Name)
	}
	put(defComponentLines, float64(c.DroppedLines), c.Name)
}

func (p *Protocol) collect(states []string, put func(d Definition, value float64, labels ...string)) {
	for _, name := range states {
		put(defProtocolState, truth(name == p.State), p.Name, name)
	}
	put(defProtocolCalls, float64(p.Calls), p.Name)
	put(defProtocolFailures, float64(p.Failures), p.Name)
	put(defProtocolRefused, float64(p.Refused), p.Name)
	put(defProtocolInFlight, float64(p.InFlight), p.Name)
	put(defProtocolWaiting, float64(p.Waiting), p.Name)
}

func (p *Plugin) collect(states []string, put func(d Definition, value float64, labels ...string)) {
	for _, name := range states {
		put(defPluginState, truth(name == p.State), p.ID, name)
	}
	put(defPluginNumber, float64(p.Generation), p.ID)
	put(defPluginRestarts, float64(p.Restarts), p.ID)
	put(defPluginCalls, float64(p.Calls), p.ID)
	put(defPluginFailures, float64(p.Failures), p.ID)
	put(defPluginInFlight, float64(p.InFlight), p.ID)
	put(defPluginBusy, p.Busy.Seconds(), p.ID)
	put(defPluginLines, float64(p.DroppedLogLines), p.ID)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
