// Package api serves sop.api.v1: the generated services once, with Connect, over
// a unix socket. Handlers convert and call the nexus; nothing is decided here.
//
// It may be imported by startup, and by cli for the socket's address.
package api
