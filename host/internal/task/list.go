package task

import (
	"time"

	"github.com/sop-host/sop/host/internal/filter"
)

// ListFields are what lists of tasks can be narrowed and ordered by.
var ListFields = filter.Schema{
	{Name: "id", Kind: filter.Text},
	{Name: "kind", Kind: filter.Word, Words: words(Kinds())},
	{Name: "title", Kind: filter.Text},
	{Name: "type", Kind: filter.Text},
	{Name: "severity", Kind: filter.Text},
	{Name: "workspace", Kind: filter.Text},
	{Name: "target", Kind: filter.Path},
	{Name: "rule", Kind: filter.Text},
	{Name: "route", Kind: filter.Text},
	{Name: "sandbox", Kind: filter.Text},
	{Name: "state", Kind: filter.Word, Words: words(States())},
	{Name: "pinned", Kind: filter.Ranked, Words: []string{"no", "yes"}},
	{Name: "rank", Kind: filter.Number},
	{Name: "attempts", Kind: filter.Number},
	{Name: "holder", Kind: filter.Text},
	{Name: "patch", Kind: filter.Text},
	{Name: "created_at", Kind: filter.Time},
	{Name: "changed_at", Kind: filter.Time},
	{Name: "due_at", Kind: filter.Time},
	{Name: "lease_until", Kind: filter.Time, Absent: true},
}

func words[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = string(v)
	}
	return out
}

// Field returns what the task has in one of ListFields.
func (t *Task) Field(name string) filter.Value {
	switch name {
	case "pinned":
		if t.Pinned {
			return filter.Value{Number: 2}
		}
		return filter.Value{Number: 1}
	case "rank":
		return filter.Value{Number: t.Rank()}
	case "attempts":
		return filter.Value{Number: int64(t.Attempts)}
	case "created_at":
		return filter.Value{Number: t.CreatedAt.UnixNano()}
	case "changed_at":
		return filter.Value{Number: t.ChangedAt.UnixNano()}
	case "due_at":
		return filter.Value{Number: t.DueAt.UnixNano()}
	case "lease_until":
		return timeValue(t.LeaseUntil)
	}
	return filter.Value{Text: t.text(name)}
}

func (t *Task) text(name string) string {
	return map[string]string{
		"id": t.ID, "kind": string(t.Kind), "title": t.Title, "type": t.Type, "severity": t.Severity, "workspace": t.Workspace,
		"target": t.Target, "rule": t.Rule, "route": t.Route, "sandbox": t.Sandbox, "state": string(t.State), "holder": t.Holder, "patch": t.Patch,
	}[name]
}

func timeValue(t time.Time) filter.Value {
	if t.IsZero() {
		return filter.Value{Absent: true}
	}
	return filter.Value{Number: t.UnixNano()}
}
