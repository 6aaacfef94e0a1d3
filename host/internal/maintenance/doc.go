// Package maintenance keeps what is asked for when a subsystem fails: by
// protocols, components, plugins, agents, operators and the host itself. A
// subsystem has one open request, however often it is asked for; it is routed to
// whoever owns the subsystem, and closes when the subsystem is healthy again.
//
// It may be imported by store, nexus, api and startup. Other features declare
// what they call of it.
package maintenance
