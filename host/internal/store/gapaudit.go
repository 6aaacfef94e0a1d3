package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/gap"
)

// gapTally is what one transaction did to gaps, for the audit log. What a scan,
// a task or the clock did is one record with counts, for there may be tens of
// thousands, and the gaps' own history names each: the record has the hash of
// these entries, so that none can be changed later. What somebody decided is one
// record each.
type gapTally struct {
	decided []audit.Record
	sums    []*gapSum
}

// gapSum counts what one scan, one task, or the clock, did to one workspace.
type gapSum struct {
	by, workspace                               string
	opened, reopened, resolved, suppressed, etc int
	changes                                     []gap.Change
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
		if c.By == "clock" || strings.HasPrefix(c.By, "scan ") || strings.HasPrefix(c.By, "task ") {
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
	s.changes = append(s.changes, c)
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

// attributeChanges is the attribute with the hash of the changes that a record
// counts; docs/audit.md says how it is made.
const attributeChanges = "changes_sha256"

// digestChanges hashes changes in the order of their gaps.
func digestChanges(changes []gap.Change) string {
	sorted := slices.SortedStableFunc(slices.Values(changes), func(x, y gap.Change) int { return strings.Compare(x.GapID, y.GapID) })
	h := sha256.New()
	var b []byte
	for _, c := range sorted {
		b = binary.BigEndian.AppendUint64(b[:0], uint64(c.At.UnixNano()))
		for _, text := range []string{c.GapID, string(c.From), string(c.To), c.By, c.Why} {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...)
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (t *gapTally) records() []audit.Record {
	out := t.decided
	for _, s := range t.sums {
		action := "gap.scan"
		switch {
		case s.by == "clock":
			action = "gap.lapse"
		case strings.HasPrefix(s.by, "task "):
			action = "gap.follow"
		}
		attributes := make(map[string]string)
		for name, n := range map[string]int{"opened": s.opened, "reopened": s.reopened, "resolved": s.resolved, "suppressed": s.suppressed, "other": s.etc} {
			if n > 0 {
				attributes[name] = strconv.Itoa(n)
			}
		}
		attributes[attributeChanges] = digestChanges(s.changes)
		out = append(out, audit.Record{
			Actor: s.by, Action: action, Resource: "workspace/" + s.workspace, Outcome: audit.Success, Attributes: attributes,
		})
	}
	return out
}
