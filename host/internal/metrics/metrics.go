package metrics

import (
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics counts what happens in one host. All methods are safe for concurrent
// use and none of them blocks.
type Metrics struct {
	registry *prometheus.Registry
	scrapes  chan struct{} // a place for each answer that is written at once
	reasons  reasons
	calls    *calls

	reloadOK, checkpoint, connections                                   *prometheus.GaugeVec
	denied, issued, uses, refused, scans, scanFiles, verified, reloads  *prometheus.CounterVec
	commitFailed, appendFailed, turnedAway                              *prometheus.CounterVec
	scanTime, groupSize, commitTime, appendTime, verifyTime, reloadTime *prometheus.HistogramVec
}

// maxScrapes is how many answers are written at once; others are refused.
const maxScrapes = 4

// New returns metrics that stand at zero.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), scrapes: make(chan struct{}, maxScrapes),
		calls:       newCalls(),
		connections: defConnections.gauge(), turnedAway: defTurnedAway.counter(),
		denied: defDenied.counter(), issued: defIssued.counter(), uses: defUses.counter(), refused: defRefused.counter(),
		scans: defScans.counter(), scanTime: defScanTime.histogram(), scanFiles: defScanFiles.counter(),
		groupSize: defGroupSize.histogram(), commitTime: defCommitTime.histogram(), commitFailed: defCommitFailed.counter(),
		appendTime: defAppendTime.histogram(), appendFailed: defAppendFailed.counter(),
		verifyTime: defVerifyTime.histogram(), verified: defVerified.counter(), checkpoint: defCheckpoint.gauge(),
		reloads: defReloads.counter(), reloadTime: defReloadTime.histogram(), reloadOK: defReloadOK.gauge(),
	}
	build := defBuild.gauge()
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(
		m.calls.total, m.calls.took, m.calls.inFlight, m.connections, m.turnedAway, m.denied, m.issued, m.uses, m.refused, m.scans, m.scanTime, m.scanFiles,
		m.groupSize, m.commitTime, m.commitFailed, m.appendTime, m.appendFailed, m.verifyTime, m.verified, m.checkpoint,
		m.reloads, m.reloadTime, m.reloadOK, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for _, v := range []*prometheus.CounterVec{m.commitFailed, m.appendFailed} {
		v.WithLabelValues() // is there from the beginning, so that the first failure is an increase
	}
	m.reloadOK.WithLabelValues().Set(1) // what a host starts with is in force
	return m
}

// ConnectionOpened counts a connection to the API.
func (m *Metrics) ConnectionOpened(way string) { m.connections.WithLabelValues(way).Inc() }

// ConnectionClosed counts one that is there no more.
func (m *Metrics) ConnectionClosed(way string) { m.connections.WithLabelValues(way).Dec() }

// ConnectionRefused counts one that was not let in.
func (m *Metrics) ConnectionRefused(way string) { m.turnedAway.WithLabelValues(way).Inc() }

// Denied counts a request that was not let in.
func (m *Metrics) Denied(reason string) { m.denied.WithLabelValues(m.reasons.bound(reason)).Inc() }

// TokenIssued counts a token.
func (m *Metrics) TokenIssued(kind string) { m.issued.WithLabelValues(kind).Inc() }

// TokenUsed counts a use.
func (m *Metrics) TokenUsed(kind string) { m.uses.WithLabelValues(kind).Inc() }

// TokenRefused counts a refusal; an empty type stands for no token at all.
func (m *Metrics) TokenRefused(kind, reason string) {
	if kind == "" {
		kind = "unknown"
	}
	m.refused.WithLabelValues(kind, m.reasons.bound(reason)).Inc()
}

// Scanned counts a scan: complete, incomplete or failed.
func (m *Metrics) Scanned(workspace, outcome string, took time.Duration, files int) {
	m.scans.WithLabelValues(workspace, outcome).Inc()
	m.scanTime.WithLabelValues(workspace).Observe(took.Seconds())
	m.scanFiles.WithLabelValues(workspace).Add(float64(files))
}

// Committed counts a transaction of several callers.
func (m *Metrics) Committed(callers int, took time.Duration, err error) {
	m.groupSize.WithLabelValues().Observe(float64(callers))
	m.commitTime.WithLabelValues().Observe(took.Seconds())
	if err != nil {
		m.commitFailed.WithLabelValues().Inc()
	}
}

// Appended counts audit records that stand alone.
func (m *Metrics) Appended(took time.Duration, err error) {
	m.appendTime.WithLabelValues().Observe(took.Seconds())
	if err != nil {
		m.appendFailed.WithLabelValues().Inc()
	}
}

// Verified counts a verification of the audit log: ok, fault or error.
func (m *Metrics) Verified(outcome string, took time.Duration) {
	m.verified.WithLabelValues(outcome).Inc()
	m.verifyTime.WithLabelValues().Observe(took.Seconds())
}

// Signed takes the time of a checkpoint.
func (m *Metrics) Signed(at time.Time) {
	m.checkpoint.WithLabelValues().Set(float64(at.UnixNano()) / float64(time.Second))
}

// Reloaded counts a reload.
func (m *Metrics) Reloaded(ok bool, took time.Duration) {
	outcome, value := "refused", 0.0
	if ok {
		outcome, value = "ok", 1
	}
	m.reloads.WithLabelValues(outcome).Inc()
	m.reloadTime.WithLabelValues().Observe(took.Seconds())
	m.reloadOK.WithLabelValues().Set(value)
}

// reasons bounds how many different reasons become labels.
type reasons struct {
	mu    sync.RWMutex
	known map[string]bool
}

const (
	maxReasons  = 64
	otherReason = "OTHER"
)

// bound returns the reason, or a word that stands for all beyond the first.
func (r *reasons) bound(reason string) string {
	if reason == "" {
		return otherReason
	}
	r.mu.RLock()
	known := r.known[reason]
	r.mu.RUnlock()
	if known {
		return reason
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxReasons {
		return otherReason
	}
	if r.known == nil {
		r.known = make(map[string]bool)
	}
	r.known[reason] = true
	return reason
}
