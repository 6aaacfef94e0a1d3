package store

import (
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/token"
)

const usedAction = "token.used"

// tokenRecord is a change of a token as the audit log has it.
func tokenRecord(c *token.Change) audit.Record {
	r := audit.Record{Action: usedAction} // nearly all are: it is not put together for each
	if c.Action != token.Used {
		r = audit.Record{Action: "token." + string(c.Action)}
	}
	r.Actor, r.Resource, r.Outcome = c.By, "token/"+c.TokenID, audit.Success
	r.Reason, r.Token = c.Why, c.Accessor
	if c.From != c.To {
		r.Attributes = map[string]string{"from": string(c.From), "to": string(c.To)}
	}
	return r
}
