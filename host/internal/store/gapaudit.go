package store

import (
	"strconv"
	"strings"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/gap"
)

// gapTally is what one transaction did to gaps, for the audit log. What a scan
// or the clock did is one record with counts, for there may be tens of
// thousands, and the gaps' own history names each; what somebody decided is one
// record each.
type gapTally struct {
	decided []audit.Record
	sums    []*gapSum
}

// gapSum counts what one scan, or the clock, did to one workspace.
type gapSum struct {
	by, workspace                               string
	opened, reopened, resolved, suppressed, etc int
}

func (t *gapTally) add(gaps []*gap.Gap, changes []gap.Change) {
	if len(changes) == 0 {
		return
	}
	byID := make(map[string]*gap.Gap, len(gaps))
	for _, g := range gaps {
		byID[g.ID] = g
	}
	for _, c := range changes {
		workspace := ""
		if g := byID[c.GapID]; g != nil {
			workspace = g.Workspace
		}
		if c.By == "clock" || strings.HasPrefix(c.By, "scan ") {
			t.sum(c.By, workspace).count(c)
			continue
		}
		t.decided = append(t.decided, audit.Record{
			Actor: c.By, Action: "gap." + gapVerb(c), Resource: "gap/" + c.GapID, Outcome: audit.Success, Reason: c.Why,
			Attributes: map[string]string{"from": string(c.From), "to": string(c.To), "workspace": workspace},
		})
	}
}

// gapVerb names what was done.
func gapVerb(c gap.Change) string {
	switch c.To {
	case gap.StateOpen:
		if c.From == "" {
			return "open"
		}
		return "reopen"
	case gap.StateSuppressed:
		return "suppress"
	case gap.StateAcknowledged:
		return "acknowledge"
	}
	return string(c.To)
}

func (t *gapTally) sum(by, workspace string) *gapSum {
	for _, s := range t.sums {
		if s.by == by && s.workspace == workspace {
			return s
		}
	}
	s := &gapSum{by: by, workspace: workspace}
	t.sums = append(t.sums, s)
	return s
}

func (s *gapSum) count(c gap.Change) {
	switch {
	case c.From == "":
		s.opened++
	case c.To == gap.StateOpen:
		s.reopened++
	case c.To == gap.StateResolved:
		s.resolved++
	case c.To == gap.StateSuppressed:
		s.suppressed++
	default:
		s.etc++
	}
}

func (t *gapTally) records() []audit.Record {
	out := t.decided
	for _, s := range t.sums {
		action := "gap.scan"
		if s.by == "clock" {
			action = "gap.lapse"
		}
		attributes := make(map[string]string)
		for name, n := range map[string]int{"opened": s.opened, "reopened": s.reopened, "resolved": s.resolved, "suppressed": s.suppressed, "other": s.etc} {
			if n > 0 {
				attributes[name] = strconv.Itoa(n)
			}
		}
		out = append(out, audit.Record{
			Actor: s.by, Action: action, Resource: "workspace/" + s.workspace, Outcome: audit.Success, Attributes: attributes,
		})
	}
	return out
}
