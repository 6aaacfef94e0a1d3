// Package cli is the sop command: one file per command, each an options struct,
// a constructor and a run method. Commands talk to the running host by its API
// over a unix socket; those that work without a host (up, scan, validate, plan,
// plugin lock) go through an [Engine].
//
// It imports the API client, config, startup and the SDK's scaffolds, and may
// be imported by cmd/sop only.
package cli
