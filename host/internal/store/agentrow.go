package store

import (
	"database/sql"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/agent"
	"github.com/sop-host/sop/host/internal/audit"
)

// agentColumns are the columns of agents in the order of agentValues and
// scanAgent.
const (
	agentColumns    = `name, trust, groups, state, reason, created_at, created_by, changed_at, expires_at, version, last_used`
	agentKeyColumns = `accessor, agent, hash, created_at, ends_at`
)

var (
	// The time of the last use is not replaced: Touch alone sets it.
	putAgent = bulk{
		"agents (" + agentColumns + ")", strings.Count(agentColumns, ",") + 1,
		" ON CONFLICT (name) DO UPDATE SET " + excluded(strings.TrimSuffix(agentColumns, ", last_used")),
	}
	putAgentKey = bulk{"agent_keys (" + agentKeyColumns + ")", 5, ""}
)

// nanoOrNull stores a time; the zero time is NULL.
func nanoOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixNano()
}

func zeroOrNano(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return fromNano(n.Int64)
}

func agentValues(args []any, a *agent.Agent) []any {
	return append(args, a.Name, string(a.Trust), words(a.Groups), string(a.State), a.Reason, a.CreatedAt.UnixNano(), a.CreatedBy,
		a.ChangedAt.UnixNano(), nanoOrNull(a.ExpiresAt), a.Version, nanoOrNull(a.LastUsed))
}

func scanAgent(scan func(...any) error) (*agent.Agent, error) {
	a := new(agent.Agent)
	var groups string
	var created, changed int64
	var expires, used sql.NullInt64
	err := scan(&a.Name, &a.Trust, &groups, &a.State, &a.Reason, &created, &a.CreatedBy, &changed, &expires, &a.Version, &used)
	if err != nil {
		return nil, err
	}
	a.CreatedAt, a.ChangedAt, a.ExpiresAt, a.LastUsed = fromNano(created), fromNano(changed), zeroOrNano(expires), zeroOrNano(used)
	a.Groups, err = readWords(groups)
	return a, err
}

// heldKey is a key with the name of its agent.
type heldKey struct {
	agent string
	agent.Key
}

func agentKeyValues(args []any, k heldKey) []any {
	return append(args, k.Accessor, k.agent, k.Hash, k.CreatedAt.UnixNano(), nanoOrNull(k.EndsAt))
}

func scanAgentKey(scan func(...any) error) (heldKey, error) {
	var k heldKey
	var created int64
	var ends sql.NullInt64
	err := scan(&k.Accessor, &k.agent, &k.Hash, &created, &ends)
	k.CreatedAt, k.EndsAt = fromNano(created), zeroOrNano(ends)
	return k, err
}

// agentRecord is a change of an agent as the audit log has it.
func agentRecord(c agent.Change) audit.Record {
	r := audit.Record{
		Time: c.At, Actor: c.By, Action: "agent." + string(c.Action), Resource: "agent/" + c.Name, Outcome: audit.Success, Reason: c.Why,
		Attributes: map[string]string{"trust": string(c.Trust)},
	}
	if len(c.Groups) > 0 {
		r.Attributes["groups"] = strings.Join(c.Groups, " ")
	}
	if c.Accessor != "" {
		r.Attributes["key"] = c.Accessor
	}
	return r
}
