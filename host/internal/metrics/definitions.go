package metrics

import "github.com/prometheus/client_golang/prometheus"

// Type is the sort of a metric.
type Type string

// The types.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// Definition is one metric.
type Definition struct {
	Name   string
	Type   Type
	Labels []string
	Help   string

	buckets []float64
}

var (
	callBuckets   = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	commitBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}
	sizeBuckets   = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
	scanBuckets   = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900}
	verifyBuckets = []float64{.001, .01, .1, .5, 1, 5, 10, 30, 60, 300}
)

// What is counted as it happens.
var (
	defCalls        = Definition{"sop_api_calls_total", Counter, []string{"method", "code"}, "Calls of the API that have ended, by method and code (ok, not_found …).", nil}
	defCallTime     = Definition{"sop_api_call_duration_seconds", Histogram, []string{"method"}, "How long calls of the API took; a stream until its end.", callBuckets}
	defInFlight     = Definition{"sop_api_calls_in_flight", Gauge, []string{"method"}, "Calls of the API under way.", nil}
	defConnections  = Definition{"sop_api_connections", Gauge, []string{"way"}, "Connections that are open, by the socket and by tcp.", nil}
	defTurnedAway   = Definition{"sop_api_connections_refused_total", Counter, []string{"way"}, "Connections that were closed at once, because there were too many.", nil}
	defDenied       = Definition{"sop_access_denied_total", Counter, []string{"reason"}, "Requests that were not authenticated or not permitted, by reason.", nil}
	defIssued       = Definition{"sop_tokens_issued_total", Counter, []string{"type"}, "Tokens that were issued, children included.", nil}
	defUses         = Definition{"sop_token_uses_total", Counter, []string{"type"}, "Uses of tokens; a retry with the same idempotency key is none.", nil}
	defRefused      = Definition{"sop_tokens_refused_total", Counter, []string{"type", "reason"}, "Tokens that were presented and refused; the type is unknown where the text is no token.", nil}
	defScans        = Definition{"sop_scans_total", Counter, []string{"workspace", "outcome"}, "Scans that have ended: complete, incomplete or failed.", nil}
	defScanTime     = Definition{"sop_scan_duration_seconds", Histogram, []string{"workspace"}, "How long scans took.", scanBuckets}
	defScanFiles    = Definition{"sop_scan_files_total", Counter, []string{"workspace"}, "Files that scans looked over.", nil}
	defGroupSize    = Definition{"sop_store_transaction_callers", Histogram, nil, "Callers that shared one transaction, and so one sync to disk.", sizeBuckets}
	defCommitTime   = Definition{"sop_store_commit_duration_seconds", Histogram, nil, "How long commits took, the sync to disk included.", commitBuckets}
	defCommitFailed = Definition{"sop_store_commit_failures_total", Counter, nil, "Transactions that could not be committed.", nil}
	defAppendTime   = Definition{"sop_audit_append_duration_seconds", Histogram, nil, "How long it took to write records that stand alone, such as decisions.", callBuckets}
	defAppendFailed = Definition{"sop_audit_append_failures_total", Counter, nil, "Records that could not be written; what they speak of did not happen.", nil}
	defVerifyTime   = Definition{"sop_audit_verify_duration_seconds", Histogram, nil, "How long verifications of the log took.", verifyBuckets}
	defVerified     = Definition{"sop_audit_verifications_total", Counter, []string{"outcome"}, "Verifications of the log: ok, fault, or error when it could not be read.", nil}
	defCheckpoint   = Definition{"sop_audit_last_checkpoint_timestamp_seconds", Gauge, nil, "When the log was last signed, in seconds since 1970.", nil}
	defReloads      = Definition{"sop_config_reloads_total", Counter, []string{"outcome"}, "Reloads of the configuration: ok or refused.", nil}
	defReloadTime   = Definition{"sop_config_reload_duration_seconds", Histogram, nil, "How long reloads took.", scanBuckets}
	defReloadOK     = Definition{"sop_config_last_reload_successful", Gauge, nil, "1 if the configuration as it stands is in force, 0 if it was refused.", nil}
	defBuild        = Definition{"sop_build_info", Gauge, []string{"version", "goversion"}, "Always 1; the labels say what runs.", nil}
)

// How things stand when somebody asks.
var (
	defState          = Definition{"sop_host_state", Gauge, []string{"state"}, "1 for the state that the host is in: starting, running or stopping.", nil}
	defDegraded       = Definition{"sop_host_degraded_reasons", Gauge, nil, "How many things are not as they should be; `sop status` names them.", nil}
	defGaps           = Definition{"sop_gaps", Gauge, []string{"workspace", "state", "severity"}, "Gaps.", nil}
	defTokens         = Definition{"sop_tokens", Gauge, []string{"type", "state"}, "Tokens; counted at most every half minute.", nil}
	defPluginState    = Definition{"sop_plugin_state", Gauge, []string{"plugin", "state"}, "1 for the state that the plugin is in.", nil}
	defPluginNumber   = Definition{"sop_plugin_generation", Gauge, []string{"plugin"}, "Number of the process in service.", nil}
	defPluginRestarts = Definition{"sop_plugin_restarts_total", Counter, []string{"plugin"}, "Recoveries from a failure.", nil}
	defPluginCalls    = Definition{"sop_plugin_calls_total", Counter, []string{"plugin"}, "Calls to the plugin that have ended.", nil}
	defPluginFailures = Definition{"sop_plugin_call_failures_total", Counter, []string{"plugin"}, "Calls to the plugin that failed.", nil}
	defPluginInFlight = Definition{"sop_plugin_calls_in_flight", Gauge, []string{"plugin"}, "Calls to the plugin under way.", nil}
	defPluginBusy     = Definition{"sop_plugin_busy_seconds_total", Counter, []string{"plugin"}, "Time that calls to the plugin took, summed over calls.", nil}
	defPluginLines    = Definition{"sop_plugin_dropped_log_lines", Gauge, []string{"plugin"}, "Lines that the process in service wrote faster than they could be kept.", nil}

	defComponentState    = Definition{"sop_component_state", Gauge, []string{"component", "state"}, "1 for the state that the component is in.", nil}
	defComponentRestarts = Definition{"sop_component_restarts_total", Counter, []string{"component"}, "Starts of the component after a failure, whatever came of them.", nil}
	defComponentProbe    = Definition{"sop_component_last_probe_successful", Gauge, []string{"component"}, "1 if the last probe of the component passed, 0 if it did not; absent where there was none.", nil}
	defComponentLines    = Definition{"sop_component_dropped_log_lines_total", Counter, []string{"component"}, "Lines that the component wrote faster than they could be kept.", nil}

	defProtocolState    = Definition{"sop_protocol_state", Gauge, []string{"protocol", "state"}, "1 for the state that the protocol is in.", nil}
	defProtocolCalls    = Definition{"sop_protocol_calls_total", Counter, []string{"protocol"}, "Calls of the protocol that were let in.", nil}
	defProtocolFailures = Definition{"sop_protocol_call_failures_total", Counter, []string{"protocol"}, "Calls of the protocol that were let in and failed.", nil}
	defProtocolRefused  = Definition{"sop_protocol_calls_refused_total", Counter, []string{"protocol"}, "Calls of the protocol that were turned away: it is full, or not in service.", nil}
	defProtocolInFlight = Definition{"sop_protocol_calls_in_flight", Gauge, []string{"protocol"}, "Calls of the protocol under way.", nil}
	defProtocolWaiting  = Definition{"sop_protocol_calls_waiting", Gauge, []string{"protocol"}, "Calls of the protocol that wait for their turn, or for it to come into service.", nil}

	defTasks = Definition{"sop_tasks", Gauge, []string{"workspace", "kind", "state"}, "Tasks, the closed ones included; counted at most every five seconds.", nil}

	defStoreWaiting  = Definition{"sop_store_writers", Gauge, nil, "Callers that write or wait to.", nil}
	defStoreSize     = Definition{"sop_store_size_bytes", Gauge, nil, "What the database takes on disk, with its write-ahead log.", nil}
	defAuditRecords  = Definition{"sop_audit_records", Gauge, nil, "Records in the log.", nil}
	defQueueDepth    = Definition{"sop_audit_queue_depth", Gauge, nil, "Records of what has happened already that wait to be written.", nil}
	defQueueLost     = Definition{"sop_audit_queue_lost_total", Counter, nil, "Records for which there was no room; that is a record too.", nil}
	defPublished     = Definition{"sop_events_published_total", Counter, nil, "Events on the bus.", nil}
	defLagged        = Definition{"sop_event_subscriptions_lagged_total", Counter, nil, "Subscribers that did not keep up and were cut off.", nil}
	defSubscriptions = Definition{"sop_event_subscriptions", Gauge, nil, "Subscribers.", nil}
	defDeepest       = Definition{"sop_event_queue_depth", Gauge, nil, "Events that wait for the subscriber that is furthest behind.", nil}
	defSpans         = Definition{"sop_trace_spans_exported_total", Counter, nil, "Spans that the collector has taken.", nil}
	defSpansFailed   = Definition{"sop_trace_spans_failed_total", Counter, nil, "Spans that the collector could not be given.", nil}
	defUnread        = Definition{"sop_scrape_failed", Gauge, []string{"part"}, "1 for a part that could not be read for this answer; its metrics are missing from it.", nil}
)

// Definitions returns every metric of ours, in the order of the documentation.
// Those of the Go runtime (go_…) and of the process (process_…) come with them.
func Definitions() []Definition {
	return []Definition{
		defCalls, defCallTime, defInFlight, defConnections, defTurnedAway, defDenied, defIssued, defUses, defRefused, defTokens, defGaps, defScans, defScanTime, defScanFiles,
		defPluginState, defPluginNumber, defPluginRestarts, defPluginCalls, defPluginFailures, defPluginInFlight, defPluginBusy, defPluginLines,
		defComponentState, defComponentRestarts, defComponentProbe, defComponentLines,
		defProtocolState, defProtocolCalls, defProtocolFailures, defProtocolRefused, defProtocolInFlight, defProtocolWaiting, defTasks,
		defGroupSize, defCommitTime, defCommitFailed, defStoreWaiting, defStoreSize,
		defAuditRecords, defAppendTime, defAppendFailed, defVerifyTime, defVerified, defCheckpoint, defQueueDepth, defQueueLost,
		defPublished, defLagged, defSubscriptions, defDeepest, defReloads, defReloadTime, defReloadOK, defSpans, defSpansFailed,
		defState, defDegraded, defBuild, defUnread,
	}
}

func (d Definition) counter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
}

func (d Definition) gauge() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.Name, Help: d.Help}, d.Labels)
}

func (d Definition) histogram() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: d.Name, Help: d.Help, Buckets: d.buckets}, d.Labels)
}

// desc is the definition where the value is read when somebody asks.
func (d Definition) desc() *prometheus.Desc {
	return prometheus.NewDesc(d.Name, d.Help, d.Labels, nil)
}

func (d Definition) valueType() prometheus.ValueType {
	if d.Type == Counter {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}
