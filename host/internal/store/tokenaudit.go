package store

import (
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/token"
)

// tokenRecords are changes of tokens as the audit log has them, one record
// each.
func tokenRecords(changes []token.Change) []audit.Record {
	out := make([]audit.Record, len(changes))
	for i, c := range changes {
		out[i] = audit.Record{
			Actor: c.By, Action: "token." + string(c.Action), Resource: "token/" + c.TokenID, Outcome: audit.Success,
			Reason: c.Why, Token: c.Accessor,
		}
		if c.From != c.To {
			out[i].Attributes = map[string]string{"from": string(c.From), "to": string(c.To)}
		}
	}
	return out
}
