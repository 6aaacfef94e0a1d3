package store

import (
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/token"
)

// tokenRecord is a change of a token as the audit log has it.
func tokenRecord(c *token.Change) audit.Record {
	action := "token." + string(token.Used) // nearly all are: it is not put together for each
	if c.Action != token.Used {
		action = "token." + string(c.Action)
	}
	r := audit.Record{
		Actor: c.By, Action: action, Resource: "token/" + c.TokenID, Outcome: audit.Success,
		Reason: c.Why, Token: c.Accessor,
	}
	if c.From != c.To {
		r.Attributes = map[string]string{"from": string(c.From), "to": string(c.To)}
	}
	return r
}
