package audit

import "github.com/sop-host/sop/host/internal/filter"

// ListFields are what lists of records can be narrowed by.
var ListFields = filter.Schema{
	{Name: "seq", Kind: filter.Number},
	{Name: "time", Kind: filter.Time},
	{Name: "actor", Kind: filter.Text},
	{Name: "action", Kind: filter.Text},
	{Name: "resource", Kind: filter.Text},
	{Name: "outcome", Kind: filter.Word, Words: []string{string(Success), string(Failure), string(Denied)}},
	{Name: "reason", Kind: filter.Text},
	{Name: "request_id", Kind: filter.Text},
	{Name: "trace_id", Kind: filter.Text},
	{Name: "token", Kind: filter.Text},
}

// OrderFields are what they can be ordered by: the order in which they came.
var OrderFields = filter.Schema{{Name: "seq", Kind: filter.Number}}

// Field returns what the record has in one of ListFields.
func (r *Record) Field(name string) filter.Value {
	switch name {
	case "seq":
		return filter.Value{Number: int64(r.Seq)}
	case "time":
		return filter.Value{Number: r.Time.UnixNano()}
	}
	return filter.Value{Text: map[string]string{
		"actor": r.Actor, "action": r.Action, "resource": r.Resource, "outcome": string(r.Outcome), "reason": r.Reason,
		"request_id": r.RequestID, "trace_id": r.TraceID, "token": r.Token,
	}[name]}
}
