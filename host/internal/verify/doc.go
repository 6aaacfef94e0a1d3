// Package verify finds out whether a patch may be trusted: it is made in a
// fresh view of the workspace, where the files that judge it are read-only, and
// steps are run on it, each in a sandbox of its own. What a step says of itself
// counts for nothing: its end is told by pid 1 of its sandbox, over a socket
// that no process in there has, and tests are counted against those that passed
// without the patch. A verdict that is missing is one against the patch: where the
// sandbox or a detector breaks down, the step is done once more, and that decides.
//
// Verifier.Verify does one verification. DESIGN.md says what it holds against.
//
// It may be imported by startup and by what takes patches through their life.
package verify
