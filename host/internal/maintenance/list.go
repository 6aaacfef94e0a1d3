package maintenance

import (
	"time"

	"github.com/sop-host/sop/host/internal/filter"
)

// Filter says which requests are listed.
type Filter struct {
	States    []State // none: all
	Subsystem string
	Where     *filter.Node
	Order     []filter.Key
	Limit     int
	Token     string
}

// MaxPage is the most requests of one page.
const MaxPage = 1000

// Page is some requests, without history.
type Page struct {
	Records []*Record
	Next    string
	Total   int64 // on all pages; of the first page only
}

// ListFields are what lists of requests can be narrowed and ordered by.
var ListFields = filter.Schema{
	{Name: "id", Kind: filter.Text},
	{Name: "subsystem", Kind: filter.Text},
	{Name: "workspace", Kind: filter.Text},
	{Name: "state", Kind: filter.Word, Words: []string{string(Open), string(Closed)}},
	{Name: "severity", Kind: filter.Ranked, Words: severities},
	{Name: "description", Kind: filter.Text},
	{Name: "filed_by", Kind: filter.Text},
	{Name: "owner", Kind: filter.Text},
	{Name: "task", Kind: filter.Text},
	{Name: "count", Kind: filter.Number},
	{Name: "first_seen", Kind: filter.Time},
	{Name: "last_seen", Kind: filter.Time},
	{Name: "closed_at", Kind: filter.Time, Absent: true},
}

// Field returns what the request has in one of ListFields.
func (r *Record) Field(name string) filter.Value {
	switch name {
	case "severity":
		return filter.Value{Number: int64(r.Severity)}
	case "count":
		return filter.Value{Number: int64(r.Count)}
	case "first_seen":
		return moment(r.FirstSeen)
	case "last_seen":
		return moment(r.LastSeen)
	case "closed_at":
		return moment(r.ClosedAt)
	}
	return filter.Value{Text: map[string]string{
		"id": r.ID, "subsystem": r.Subsystem, "workspace": r.Workspace, "state": string(r.State), "description": r.Description,
		"filed_by": r.FiledBy, "owner": r.Owner, "task": r.TaskID,
	}[name]}
}

func moment(t time.Time) filter.Value {
	if t.IsZero() {
		return filter.Value{Absent: true}
	}
	return filter.Value{Number: t.UnixNano()}
}
