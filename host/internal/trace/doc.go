// Package trace records what the host does as spans and sends them to an
// OpenTelemetry collector, when the configuration names one.
//
// A [Tracer] begins spans where work enters the host: a call of the API, a scan
// of the schedule. Everything beneath calls [Start] with the context that it was
// given; without a span in it, as always when traces are off, that is one look
// into the context and nothing else. Spans of plugins come back with their
// answers and are taken in by [Span.Adopt].
//
// It imports nothing of ours. Any package of the host may import it; only
// startup makes a Tracer.
package trace
