// Package protocol is the host's side of the peers in the stack, ARP, SCP, UIP
// and the operator's own, which it reaches through protocol plugins: it takes
// them into service and out of it, tests them first, and carries calls to them,
// bounded in number, size and time.
//
// It knows no tokens and no policy: the nexus has decided before a call comes
// here, and hands in how a use of the caller's token is taken. It may be imported
// by nexus, api and startup.
package protocol
