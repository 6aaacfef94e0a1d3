// Package store keeps the state of the host in SQL: one body of queries with
// $N parameters on database/sql, a small dialect for what differs between
// engines, and embedded migrations.
//
// SQLite is the engine today: write-ahead log, synchronous=FULL, so that what
// was committed survives SIGKILL and a power cut; one connection that writes
// and a few that read. PostgreSQL will be the second dialect. The suite in
// storetest says what both must do.
//
// Times are stored as UTC integers, nanoseconds since the Unix epoch: they
// compare and index as numbers, lose nothing of time.Time's resolution, and are
// the same in both engines without either's ideas about zones and formats.
//
// Hashes are unsigned and stored as the signed integers with the same bits.
//
// DESIGN.md says why the store writes as it does.
//
// The package imports the features' types and implements the Store interfaces
// that they declare. Only startup, the scan command and tests may import it.
package store
