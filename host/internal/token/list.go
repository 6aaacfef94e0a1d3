package token

import (
	"time"

	"github.com/sop-host/sop/host/internal/filter"
)

// ListFields are what lists of tokens can be narrowed and ordered by.
var ListFields = filter.Schema{
	{Name: "id", Kind: filter.Text},
	{Name: "accessor", Kind: filter.Text},
	{Name: "type", Kind: filter.Word, Words: names(Types())},
	{Name: "state", Kind: filter.Word, Words: names(States())},
	{Name: "protocol", Kind: filter.Text},
	{Name: "operations", Kind: filter.List},
	{Name: "requester", Kind: filter.Text},
	{Name: "task", Kind: filter.Text},
	{Name: "paths", Kind: filter.List},
	{Name: "workspace", Kind: filter.Text},
	{Name: "issued_by", Kind: filter.Text},
	{Name: "parent", Kind: filter.Text},
	{Name: "created_at", Kind: filter.Time},
	{Name: "not_before", Kind: filter.Time},
	{Name: "expires_at", Kind: filter.Time},
	{Name: "last_use", Kind: filter.Time, Absent: true},
	{Name: "max_uses", Kind: filter.Number},
	{Name: "uses", Kind: filter.Number},
	{Name: "remaining", Kind: filter.Number},
}

func names[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = string(v)
	}
	return out
}

// Field returns what the token has in one of ListFields, as it stands.
func (t *Token) Field(name string) filter.Value {
	switch name {
	case "operations":
		return filter.Value{List: t.Operations}
	case "paths":
		return filter.Value{List: t.Paths}
	case "max_uses":
		return filter.Value{Number: int64(t.MaxUses)}
	case "uses":
		return filter.Value{Number: int64(t.Uses)}
	case "remaining":
		return filter.Value{Number: int64(t.MaxUses - t.Uses - t.Reserved)}
	case "last_use":
		if t.LastUse.IsZero() {
			return filter.Value{Absent: true}
		}
		return filter.Value{Number: t.LastUse.UnixNano()}
	}
	if at, ok := map[string]time.Time{"created_at": t.CreatedAt, "not_before": t.NotBefore, "expires_at": t.ExpiresAt}[name]; ok {
		return filter.Value{Number: at.UnixNano()}
	}
	return filter.Value{Text: map[string]string{
		"id": t.ID, "accessor": t.Accessor, "type": string(t.Type), "state": string(t.State), "protocol": t.Protocol, "requester": t.Requester,
		"task": t.Task, "workspace": t.Workspace, "issued_by": t.IssuedBy, "parent": t.Parent,
	}[name]}
}
