// Package ship carries the audit log away from the host: signed checkpoints to
// sinks, and every record to mirrors.
//
//	ship.go        the set of carriers, replaced as the configuration changes
//	carrier.go     one carrier: retry, backoff, and what is told of failures
//	checkpoint.go  checkpoints: the newest supersedes what could not be sent
//	mirror.go      records, from a cursor in the store on
//	file.go, syslog.go, http.go  the ways to send
//
// Nothing here holds up the log: a carrier follows it, and one whose other end
// is down waits and then goes on from where it was. What was acknowledged is
// not sent again, but for what a crash made forget: at least once.
//
// The package knows package audit and nothing else of ours but sdk, for errors.
// Only startup and tests may import it.
package ship
