// Package flow is the loop that the host exists for: it takes tasks through
// generation, verification, approval, backup, integration and the rescan that
// proves the gap gone, and undoes what did not hold.
//
// The state of a task and of its patch say all that there is to know about how
// far it is; the engine keeps nothing of its own. A host that is killed goes on
// where those stand. It may be imported by startup, which passes in what the
// engine calls.
package flow
