// Package gap knows the deficiencies of the governed workspaces: it has
// detectors look for them, recognises from scan to scan which ones it already
// knows, and keeps the state of each.
//
// By stage:
//
//	scan.go      one scan: walk, ask every detector, record
//	session.go   what a detector holds between scans, and so what it is sent
//	stream.go    one exchange with a detector, which is not trusted
//	finding.go   a finding checked, clipped, hashed and redacted
//	match.go     findings matched with known gaps, in tiers
//	apply.go     what a scan proved, as changes of gaps
//	state.go     the states and the transitions between them
//	service.go   what operators do with gaps
//
// The package declares the [Store] it needs; package store implements it. It
// imports event's vocabulary by interface only ([Publisher]), workspace for the
// manifest, sdk for errors and the plugin proto for what detectors say. nexus,
// store and startup may import it; no other feature may.
package gap
