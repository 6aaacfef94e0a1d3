package gap

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// evidence is what one completed scan by one detector has shown.
type evidence struct {
	workspace, detector string
	by                  string // "scan <id>"
	at                  time.Time
	found               []finding
	rules               map[string]*pluginv1.Rule // all that the detector has
	applied             func(rule string) bool    // was asked for in this scan
	covered             map[string]struct{}
	exists              func(path string) bool
	listed              func(path string) bool // had it been there, it would exist
	// paths are those that the scan can say anything about; nil: all.
	paths []string
}

// proof says whether, and how, it is proved that g is not where it was. What
// was not examined proves nothing.
func (e *evidence) proof(g *Gap) (how Resolution, why string) {
	rule := e.rules[g.Rule]
	_, covered := e.covered[g.Path]
	switch {
	case rule == nil:
		return RuleRetired, "detector " + e.detector + " no longer has the rule"
	case !e.applied(g.Rule):
		return "", ""
	case !e.exists(g.Path) && e.listed(g.Path):
		return TargetRemoved, g.Path + " is gone"
	case !covered:
		return "", ""
	case rule.GetVersion() != g.RuleVersion:
		return RuleRetired, fmt.Sprintf("version %s of the rule no longer reports it", rule.GetVersion())
	}
	return Fixed, "examined completely and not seen"
}

// application is the effect of an evidence on the store.
type application struct {
	*evidence
	put     []*Gap
	history []Change
	touch   []string
	changed Changed
	seen    int // known before and seen again
}

// apply makes the store say what e shows. It runs inside of one transaction.
func apply(ctx context.Context, tx Tx, e *evidence) (*application, error) {
	a := &application{evidence: e, changed: Changed{Workspace: e.workspace, By: e.by}}
	fingerprintAll(e.found)
	known, err := tx.Gaps(ctx, Selection{Workspace: e.workspace, Detector: e.detector, Paths: e.paths})
	if err != nil {
		return nil, err
	}
	fresh, err := a.matchKnown(known)
	if err != nil {
		return nil, err
	}
	fresh, err = a.matchResolved(ctx, tx, fresh)
	if err != nil {
		return nil, err
	}
	if err := a.open(fresh); err != nil {
		return nil, err
	}
	if err := tx.Put(ctx, a.put, a.history); err != nil {
		return nil, err
	}
	return a, tx.Touch(ctx, a.touch, e.at)
}

// matchKnown sees known gaps again or resolves them, and returns the findings
// that are none of them.
func (a *application) matchKnown(known []*Gap) ([]finding, error) {
	partner := match(matching{
		known: known, found: a.found,
		left: a.left,
		gone: func(p string) bool { return !a.exists(p) },
	})
	seen := make([]bool, len(known))
	var fresh []finding
	for i, f := range a.found {
		if partner[i] == none {
			fresh = append(fresh, f)
			continue
		}
		seen[partner[i]] = true
		if err := a.see(known[partner[i]], f.Gap); err != nil {
			return nil, err
		}
	}
	for i, g := range known {
		if seen[i] {
			continue
		}
		if how, why := a.proof(g); how != "" {
			if err := a.record(g)(g.resolve(how, a.by, why, a.at)); err != nil {
				return nil, err
			}
		}
	}
	return fresh, nil
}

// left says that g is not where it was and may be elsewhere. Where work is under
// way it is fixed when it is gone: what looks like it elsewhere is another one, and
// was there before the work or came with it.
func (a *application) left(g *Gap) bool {
	how, _ := a.proof(g)
	worked := g.State == StateInProgress || g.State == StateVerifying
	return how != "" && (how != Fixed || !worked)
}

// see updates a live gap from what was found.
func (a *application) see(g, f *Gap) error {
	a.seen++
	moved := g.refresh(f)
	g.LastSeen = a.at
	if g.State == StateSuppressed {
		if why := g.lapse(g.contentHash(), a.at); why != "" {
			a.seen--
			return a.record(g)(g.move(StateOpen, a.by, why, a.at))
		}
	}
	if moved {
		a.put = append(a.put, g)
	} else {
		a.touch = append(a.touch, g.ID)
	}
	return nil
}

// refresh takes over what a scan says and reports whether anything is new.
func (g *Gap) refresh(f *Gap) bool {
	was := *g
	g.Fingerprint, g.Location, g.Keys = f.Fingerprint, f.Location, f.Keys
	g.RuleVersion, g.DetectorVersion = f.RuleVersion, f.DetectorVersion
	g.Type, g.Severity, g.Confidence = f.Type, f.Severity, f.Confidence
	g.Message, g.Remedy, g.Evidence = f.Message, f.Remedy, f.Evidence
	return g.Fingerprint != was.Fingerprint || g.Location != was.Location || g.Keys != was.Keys ||
		g.RuleVersion != was.RuleVersion || g.DetectorVersion != was.DetectorVersion ||
		g.Type != was.Type || g.Severity != was.Severity || g.Confidence != was.Confidence ||
		g.Message != was.Message || g.Remedy != was.Remedy || g.Evidence != was.Evidence
}

// matchResolved brings back resolved gaps that are among fresh and returns the
// rest.
func (a *application) matchResolved(ctx context.Context, tx Tx, fresh []finding) ([]finding, error) {
	if len(fresh) == 0 {
		return nil, nil
	}
	paths := make([]string, len(fresh))
	for i, f := range fresh {
		paths[i] = f.Path
	}
	slices.Sort(paths)
	resolved, err := tx.Gaps(ctx, Selection{
		Workspace: a.workspace, Detector: a.detector, Resolved: true, Paths: slices.Compact(paths),
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(resolved, func(x, y *Gap) int { // latest first
		return cmp.Or(y.LastSeen.Compare(x.LastSeen), cmp.Compare(y.ID, x.ID))
	})
	partner := match(matching{
		known: resolved, found: fresh, returning: true,
		left: func(*Gap) bool { return false },
		gone: func(string) bool { return false },
	})
	var rest []finding
	for i, f := range fresh {
		if partner[i] == none {
			rest = append(rest, f)
			continue
		}
		if err := a.bringBack(resolved[partner[i]], f.Gap); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// bringBack reopens a resolved gap. A suppression that it had, and that still
// holds for the content, holds again.
func (a *application) bringBack(g, f *Gap) error {
	g.refresh(f)
	g.LastSeen = a.at
	if g.Suppression != nil && g.lapse(g.contentHash(), a.at) == "" {
		a.seen++
		return a.record(g)(g.move(StateSuppressed, a.by, "it has returned and its suppression still holds", a.at))
	}
	return a.record(g)(g.move(StateOpen, a.by, "it has returned", a.at))
}

// open makes gaps of findings that nobody knows.
func (a *application) open(fresh []finding) error {
	for _, f := range fresh {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make gap id: %w", err)
		}
		g := f.Gap
		g.ID, g.FirstSeen, g.LastSeen = id.String(), a.at, a.at
		if err := a.record(g)(g.move(StateOpen, a.by, "found", a.at)); err != nil {
			return err
		}
	}
	return nil
}

// record takes down a transition of g.
func (a *application) record(g *Gap) func(Change, error) error {
	return func(c Change, err error) error {
		if err != nil {
			return err
		}
		a.put = append(a.put, g)
		a.history = append(a.history, c)
		a.changed.add(g, c)
		return nil
	}
}
