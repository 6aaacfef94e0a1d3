package event

import "time"

// Record is an event that is kept, so that whoever was away hears of it.
type Record struct {
	Revision   int64 // from 1, in the order of the commits, without gaps
	At         time.Time
	Kind       string // noun and verb: "gap.open", "token.revoked", "plugin.start"
	Subject    string // "gap/<id>", "plugin/<id>" …
	Actor      string
	Outcome    string // as of audit records
	Reason     string
	Workspace  string            // empty where it is about none
	Attributes map[string]string // may be nil
}
