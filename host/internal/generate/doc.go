// Package generate does one run of a sandbox plugin on a task: in a fresh view
// of a workspace it starts the plugin, has it generate, follows what it reports,
// and returns what was changed, as the host computed it, with the evidence.
//
// Runner.Run does one run. What the plugin says of itself is a claim; what it
// changed, how it ended and what it used is not.
//
// It may be imported by startup and flow. It imports plugin, sandbox and sdk.
package generate
