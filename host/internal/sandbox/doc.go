// Package sandbox runs commands in isolation: generators, verification runs,
// plugins and components. A command sees a root that was built for it and a
// copy-on-write view of a workspace; what it changed there is read back by the
// host when nothing of the run is alive any longer.
//
// Runner.Run does one run, Changes reads what it left behind, Apply takes
// it over into a tree, Runner.Probe finds out what this machine can do. The
// stages between host and command are in launch, and DESIGN.md says why they
// are as they are.
//
// It may be imported by startup, plugin, verify and by what keeps change sets. It imports nothing else of SOP.
package sandbox
