// Package trace lets a plugin take part in the traces of its host. The host
// sends a W3C traceparent with every call that is traced; [sdk.Serve] begins a
// span for such a call, in whose context the handler runs, and [Start] begins
// further ones beneath it.
//
// What has ended when the call ends travels back to the host with the answer,
// in the trailer [Trailer], and the host exports it. So a plugin needs neither
// the network nor the collector's credentials to be seen in a trace, and a call
// that is not traced costs nothing. The context also holds the span in the form
// of OpenTelemetry, for authors who bring an exporter of their own.
//
// It may be imported by plugins, sdk and the host's plugin package.
//
// [sdk.Serve]: https://pkg.go.dev/github.com/sop-host/sop/sdk#Serve
package trace
