package backup

import (
	"time"

	"github.com/sop-host/sop/host/internal/filter"
)

// ListFields are what lists of snapshots can be narrowed and ordered by.
var ListFields = filter.Schema{
	{Name: "id", Kind: filter.Text},
	{Name: "plugin", Kind: filter.Text},
	{Name: "workspace", Kind: filter.Text},
	{Name: "reason", Kind: filter.Word, Words: words(Reasons())},
	{Name: "task", Kind: filter.Text},
	{Name: "patch", Kind: filter.Text},
	{Name: "schedule", Kind: filter.Text},
	{Name: "created_by", Kind: filter.Text},
	{Name: "created_at", Kind: filter.Time},
	{Name: "files", Kind: filter.Number},
	{Name: "bytes", Kind: filter.Number},
	{Name: "stored", Kind: filter.Number},
	{Name: "failed", Kind: filter.Number},
	{Name: "state", Kind: filter.Word, Words: words(States())},
	{Name: "verified_at", Kind: filter.Time, Absent: true},
	{Name: "data_verified_at", Kind: filter.Time, Absent: true},
}

func words[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = string(v)
	}
	return out
}

// Field returns what the snapshot has in one of ListFields.
func (s *Snapshot) Field(name string) filter.Value {
	switch name {
	case "created_at":
		return moment(s.CreatedAt)
	case "verified_at":
		return moment(s.StructureAt)
	case "data_verified_at":
		return moment(s.DataAt)
	case "files":
		return filter.Value{Number: s.Files}
	case "bytes":
		return filter.Value{Number: s.Bytes}
	case "stored":
		return filter.Value{Number: s.Stored}
	case "failed":
		return filter.Value{Number: int64(s.Failed)}
	}
	return filter.Value{Text: map[string]string{
		"id": s.ID, "plugin": s.Plugin, "workspace": s.Workspace, "reason": string(s.Reason), "task": s.Task, "patch": s.Patch,
		"schedule": s.Schedule, "created_by": s.By, "state": string(s.State),
	}[name]}
}

func moment(t time.Time) filter.Value {
	if t.IsZero() {
		return filter.Value{Absent: true}
	}
	return filter.Value{Number: t.UnixNano()}
}
