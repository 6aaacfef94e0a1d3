// Package plugin is the plugin host: it verifies, starts, supervises, swaps and
// stops plugin processes of any kind, and lends connections to them.
//
// A plugin that is configured is a unit of the [Pool]; each process that serves
// it is a generation. A generation passes, in this order: verify (the locked
// checksum), start (private directory, own session, scrubbed environment, pid
// namespace where the kernel grants one), handshake (mutual TLS), describe,
// configure, health; then it is in service. [Pool.Conn] returns a connection
// that outlives generations: each call goes to the one in service.
//
// DESIGN.md beside this file gives the reasons.
//
// Who may import it: startup and cli. It imports sdk and the generated contract.
package plugin
