// Package launch is what runs between the host and a sandboxed command: the
// stages of one small program, sop-sandbox.
//
//	seed       kept by the host; forks, for each run, a
//	launcher   outside; clones the namespaces and writes the id maps
//	init       pid 1 inside; builds the root, answers denied calls, reaps
//	exec       gives every power up, becomes the command
//
// Each is a fork of the one before, not a program executed anew: see fork for
// what they must not do.
//
// A plugin has one stage, which becomes it: see plugin.go.
//
// The host and the stages of a run talk over one SEQPACKET socket: the host sends
// one Plan, the stages send Messages. When the host's end closes, everything dies.
// ../DESIGN.md has the order of steps and why.
//
// It may be imported by sandbox and plugin, for the types, and by host/cmd/sop-sandbox. It
// imports nothing else of SOP, and little else: the first run pays for what its
// program initialises.
package launch
