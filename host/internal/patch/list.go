package patch

import (
	"time"

	"github.com/sop-host/sop/host/internal/filter"
)

// ListFields are what lists of patches can be narrowed and ordered by.
var ListFields = filter.Schema{
	{Name: "id", Kind: filter.Text},
	{Name: "task", Kind: filter.Text},
	{Name: "workspace", Kind: filter.Text},
	{Name: "title", Kind: filter.Text},
	{Name: "proposer", Kind: filter.Text},
	{Name: "hash", Kind: filter.Text},
	{Name: "state", Kind: filter.Word, Words: words(States())},
	{Name: "approval", Kind: filter.Word, Words: words(Rules())},
	{Name: "risks", Kind: filter.List},
	{Name: "files", Kind: filter.Number},
	{Name: "bytes", Kind: filter.Number},
	{Name: "created_at", Kind: filter.Time},
	{Name: "changed_at", Kind: filter.Time},
	{Name: "integrated_at", Kind: filter.Time, Absent: true},
}

func words[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = string(v)
	}
	return out
}

// Field returns what the patch has in one of ListFields.
func (p *Patch) Field(name string) filter.Value {
	switch name {
	case "risks":
		return filter.Value{List: words(p.Risks)}
	case "files":
		return filter.Value{Number: int64(p.Files)}
	case "bytes":
		return filter.Value{Number: p.Bytes}
	case "integrated_at":
		if p.IntegratedAt.IsZero() {
			return filter.Value{Absent: true}
		}
		return filter.Value{Number: p.IntegratedAt.UnixNano()}
	}
	if at, ok := map[string]time.Time{"created_at": p.CreatedAt, "changed_at": p.ChangedAt}[name]; ok {
		return filter.Value{Number: at.UnixNano()}
	}
	return filter.Value{Text: map[string]string{
		"id": p.ID, "task": p.Task, "workspace": p.Workspace, "title": p.Title, "proposer": p.Proposer, "hash": p.Hash,
		"state": string(p.State), "approval": string(p.Rule),
	}[name]}
}
