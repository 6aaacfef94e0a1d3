package gap

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Report is one finding that a detector hands over outside of a scan.
type Report struct {
	Workspace string
	// Detector, its version and all of its rules.
	Detector, Version string
	Rules             []*pluginv1.Rule
	By                string
	// Exists says whether there is such a path in the workspace.
	Exists  func(path string) bool
	Finding *pluginv1.Finding
}

// Report takes a finding in: as the gap that it is known as, or as a new one.
// The detector's next complete scan of the path resolves it, unless that sees it
// too.
func (s *Service) Report(ctx context.Context, r Report) (*Gap, error) {
	c := &checker{
		workspace: r.Workspace, detector: r.Detector, detectorVersion: r.Version,
		rules: make(map[string]*pluginv1.Rule, len(r.Rules)), exists: r.Exists,
	}
	for _, rule := range r.Rules {
		c.rules[rule.GetId()] = rule
	}
	f, err := c.check(r.Finding)
	if err != nil {
		return nil, sdk.Errorf(codes.InvalidArgument, "FINDING_INVALID", "the finding was not taken: %w", err).
			WithRemedy("report a rule of the detector, at a path of the workspace")
	}
	fingerprintAll([]finding{f})
	done := &application{evidence: &evidence{workspace: r.Workspace, detector: r.Detector, by: r.By, at: time.Now().UTC()}}
	var id string
	err = s.store.Update(ctx, func(tx Tx) error {
		*done = application{evidence: done.evidence, changed: Changed{Workspace: r.Workspace, By: r.By}}
		g, err := done.takeIn(ctx, tx, f)
		if err != nil {
			return err
		}
		id = g.ID
		if err := tx.Put(ctx, done.put, done.history); err != nil {
			return err
		}
		return tx.Touch(ctx, done.touch, done.at)
	})
	if err != nil {
		return nil, err
	}
	if !done.changed.empty() {
		s.publisher.Publish(done.changed)
	}
	return s.store.Get(ctx, id)
}

// takeIn sees the gap that f is again, brings it back, or opens it. Where a scan
// matches all that it found with all that is known, here one finding stands
// alone: only what is the same to the letter is the same gap.
func (a *application) takeIn(ctx context.Context, tx Tx, f finding) (*Gap, error) {
	for _, resolved := range []bool{false, true} {
		known, err := tx.Gaps(ctx, Selection{Workspace: a.workspace, Detector: a.detector, Resolved: resolved, Paths: []string{f.Path}})
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(known, f.same)
		switch {
		case i < 0:
		case resolved:
			return known[i], a.bringBack(known[i], f.Gap)
		default:
			return known[i], a.see(known[i], f.Gap)
		}
	}
	return f.Gap, a.open([]finding{f})
}

// same says whether g is at the same place with the same content.
func (f finding) same(g *Gap) bool {
	return g.Rule == f.Rule && g.Path == f.Path && g.Symbol == f.Symbol && g.Keys.Snippet == f.Keys.Snippet &&
		(f.Keys.Snippet != 0 || g.Message == f.Message && g.Line == f.Line)
}
