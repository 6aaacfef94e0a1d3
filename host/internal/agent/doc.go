// Package agent knows the callers that were enrolled: who they are, how far
// they are trusted, and which keys prove it.
//
//	agent.go         what an agent and its keys are
//	key.go           the form of a key, and the host's key that hashes it
//	spec.go          what is asked for at enrolment, checked and completed
//	store.go         the store that the package needs
//	service.go       transactions, and agents in memory
//	manage.go        enrol, rotate, revoke, list
//	authenticate.go  whose key is presented
//	root.go          the built-in agent root, whose key lies in a file
//	denial.go        why a key was refused
//
// A name is given once: an agent that was revoked stays revoked, and the records
// that name it stay unambiguous.
//
// The package declares the [Store] it needs; package store implements it. It
// imports secret, and sdk for errors only. nexus, api, store and startup may
// import it; no other feature may.
package agent
