// Package task holds the actionable TODOs of the host: what they are, the states
// they go through, who may work on one at a time, and what a generator is told
// about it.
//
// The row of a task is the queue: its state, due time, lease and fencing number
// say who works on it next. There is no second queue beside it
// (docs/decisions/0005-the-task-row-is-the-queue.md).
//
// It is a feature: api, nexus, store and startup may import it. It never imports
// another feature; what it needs of gaps, workspaces and patches it declares.
package task
