// Package launch is what runs between the host and a sandboxed command: three
// stages of one small program, sop-sandbox, each of which starts the next.
//
//	launcher   outside; clones the namespaces and writes the id maps
//	init       pid 1 inside; builds the root, answers denied calls, reaps
//	exec       one locked thread; gives every power up, becomes the command
//
// A plugin has one stage, which becomes it: see plugin.go.
//
// The host and the stages talk over one SEQPACKET socket: the host sends one
// Plan, the stages send Messages. When the host's end closes, everything dies.
// ../DESIGN.md has the order of steps and why.
//
// It may be imported by sandbox and plugin, for the types, and by host/cmd/sop-sandbox. It
// imports nothing else of SOP, and little else: each stage pays for what its
// program initialises.
package launch
