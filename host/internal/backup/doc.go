// Package backup is the host's side of backup plugins: it saves paths of
// workspaces and SOP's own state, remembers each snapshot with the hash that
// proves it, verifies, compares and restores.
//
//	snapshot.go   what a snapshot is, as the host knows it
//	store.go      what is kept, and by which interface
//	service.go    the service, and what it is made of
//	call.go       calls to plugins, and the tokens under which they are made
//	save.go       saving
//	state.go      saving the host's own state
//	watch.go      how far the calls under way are
//	restore.go    restoring, and what it would change
//	place.go      where a restore may write
//	compare.go    the difference between a snapshot and a tree, or another one
//	verify.go     reading snapshots back
//	manage.go     pins, deletion, the retention of plugins
//	schedule.go   what is done by itself, and when
//	retain.go     which snapshots of a schedule are kept
//	drill.go      restoring to see whether it can be done
//
// A repository is the plugin's; what was acknowledged is recorded here, in the
// host's own database, with its audit record: what is missing from a repository,
// or is not what was saved, is noticed.
//
// The package declares the [Store] and the [Plugins] it needs. nexus, api, store
// and startup may import it; no other feature may.
package backup
