// Package egress is the one way from a sandbox to the network: a proxy on the
// host's side that lets through what is named, host and port, and nothing else,
// and writes down each decision. It adds credentials that the sandbox never
// sees.
//
// It may be imported by sandbox. It imports nothing of SOP.
package egress
