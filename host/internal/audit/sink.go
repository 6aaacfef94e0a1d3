package audit

import "time"

// SinkStatus says how carrying checkpoints or records to one place is going.
type SinkStatus struct {
	Name   string
	Mirror bool   // of records; otherwise of checkpoints
	Kind   string // file, syslog or http
	Target string
	// Sent is the last record that was sent, or the size of the last checkpoint;
	// Lag is how many records more there are, or are signed.
	Sent, Lag    uint64
	LastSent     time.Time // zero: nothing was, since the host started
	Failures     int       // in a row, until now
	FailingSince time.Time
	Error        string
	Remedy       string
}
