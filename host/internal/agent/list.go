package agent

import (
	"time"

	"github.com/sop-host/sop/host/internal/filter"
)

// ListFields are what lists of agents can be narrowed and ordered by.
var ListFields = filter.Schema{
	{Name: "name", Kind: filter.Text},
	{Name: "trust", Kind: filter.Word, Words: words(Trusts())},
	{Name: "groups", Kind: filter.List},
	{Name: "state", Kind: filter.Word, Words: words(States())},
	{Name: "reason", Kind: filter.Text},
	{Name: "created_at", Kind: filter.Time},
	{Name: "created_by", Kind: filter.Text},
	{Name: "changed_at", Kind: filter.Time},
	{Name: "expires_at", Kind: filter.Time, Absent: true},
	{Name: "last_used", Kind: filter.Time, Absent: true},
}

func words[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = string(v)
	}
	return out
}

// Field returns what the agent has in one of ListFields, as it stands.
func (a *Agent) Field(name string) filter.Value {
	switch name {
	case "groups":
		return filter.Value{List: a.Groups}
	case "created_at":
		return moment(a.CreatedAt)
	case "changed_at":
		return moment(a.ChangedAt)
	case "expires_at":
		return moment(a.ExpiresAt)
	case "last_used":
		return moment(a.LastUsed)
	}
	return filter.Value{Text: map[string]string{
		"name": a.Name, "trust": string(a.Trust), "state": string(a.State), "reason": a.Reason, "created_by": a.CreatedBy,
	}[name]}
}

func moment(t time.Time) filter.Value {
	if t.IsZero() {
		return filter.Value{Absent: true}
	}
	return filter.Value{Number: t.UnixNano()}
}
