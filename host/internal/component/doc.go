// Package component brings supervised commands online in the order of their
// dependencies, finds out when they are ready, starts them again when they end,
// starts some only when they are needed, and stops all in reverse order.
//
// A component that is configured is a unit of the [Supervisor]; each process
// that runs for it is an instance. The files follow the life of one: spec, dag,
// start, ready, restart, demand, stop, adopt. DESIGN.md beside this file gives
// the reasons.
//
// Who may import it: startup, nexus and api. It is a feature and imports none.
package component
