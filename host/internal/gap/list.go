package gap

import (
	"time"

	"github.com/sop-host/sop/host/internal/filter"
)

// ListFields are what lists of gaps can be narrowed and ordered by.
var ListFields = filter.Schema{
	{Name: "id", Kind: filter.Text},
	{Name: "fingerprint", Kind: filter.Text},
	{Name: "workspace", Kind: filter.Text},
	{Name: "rule", Kind: filter.Text},
	{Name: "type", Kind: filter.Text},
	{Name: "severity", Kind: filter.Ranked, Words: severities[1:]},
	{Name: "confidence", Kind: filter.Ranked, Words: confidences[1:]},
	{Name: "path", Kind: filter.Path},
	{Name: "line", Kind: filter.Number},
	{Name: "symbol", Kind: filter.Text},
	{Name: "message", Kind: filter.Text},
	{Name: "detector", Kind: filter.Text},
	{Name: "state", Kind: filter.Word, Words: stateNames()},
	{Name: "resolution", Kind: filter.Text},
	{Name: "first_seen", Kind: filter.Time},
	{Name: "last_seen", Kind: filter.Time},
	{Name: "resolved_at", Kind: filter.Time, Absent: true},
}

func stateNames() []string {
	names := make([]string, len(States()))
	for i, s := range States() {
		names[i] = string(s)
	}
	return names
}

// Field returns what the gap has in one of ListFields.
func (g *Gap) Field(name string) filter.Value {
	switch name {
	case "severity":
		return filter.Value{Number: int64(g.Severity)}
	case "confidence":
		return filter.Value{Number: int64(g.Confidence)}
	case "line":
		return filter.Value{Number: int64(g.Line)}
	case "first_seen":
		return timeValue(&g.FirstSeen)
	case "last_seen":
		return timeValue(&g.LastSeen)
	case "resolved_at":
		return timeValue(g.ResolvedAt)
	}
	return filter.Value{Text: g.text(name)}
}

func (g *Gap) text(name string) string {
	return map[string]string{
		"id": g.ID, "fingerprint": g.Fingerprint, "workspace": g.Workspace, "rule": g.Rule, "type": string(g.Type), "path": g.Path,
		"symbol": g.Symbol, "message": g.Message, "detector": g.Detector, "state": string(g.State), "resolution": string(g.Resolution),
	}[name]
}

func timeValue(t *time.Time) filter.Value {
	if t == nil {
		return filter.Value{Absent: true}
	}
	return filter.Value{Number: t.UnixNano()}
}
