// Package patch knows proposed changes: what they would change, with which
// evidence, in which state they are, and who has approved them.
//
//	patch.go    what a patch is
//	state.go    the states and the transitions between them
//	canon.go    the hash by which a patch is approved and integrated
//	blob.go     the content of patches, by hash, on disk
//	propose.go  how one comes in
//	risk.go     what somebody should look at twice
//	decide.go   verification, approval, denial
//	integrate.go the states around integration
//	rebase.go   what becomes of one whose base has moved
//	list.go, manage.go, store.go
//
// The content of a patch never changes: a change to it is another patch, with
// another hash, and without approvals. The package declares the [Store] that it
// needs; package store implements it. It imports sandbox for change sets, merge,
// patchfile and filter, and sdk for errors. nexus, api, store, flow and startup may
// import it; no other feature may.
package patch
