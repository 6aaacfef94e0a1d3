// Package token knows the capabilities that agents work under: what each
// permits, how often and until when, in which state it is, and which secret
// proves that somebody holds it.
//
//	token.go     what a token is
//	state.go     the states and the transitions between them
//	secret.go    which secrets are tokens'
//	key.go       the host's key
//	spec.go      what is asked for at issue, checked and completed
//	narrow.go    what a child may be: never more than its parent
//	paths.go     path patterns
//	request.go   what a use is for, and whether the token permits it
//	denial.go    why a token was refused, and who is told
//	clock.go     time that never goes back
//	cache.go     tokens in memory
//	issue.go, use.go, manage.go, sweep.go   what can be done with tokens
//
// The uses of a child are reserved from its parent when it is issued and stay
// reserved whatever becomes of the child; so the uses of a whole tree never
// exceed the maximum of its root, and a use never has to look beyond its own
// token. A child ends no later than its parent was to end at that moment.
//
// The package declares the [Store] it needs; package store implements it. It
// imports secret, and sdk for errors only. nexus, api, store and startup may import it; no
// other feature may.
package token
