package gap

import (
	"context"
	"slices"
	"time"
)

// retire resolves the gaps of detectors that the configuration does not have any
// more: nobody would ever look for them again. With the detector they return.
func retire(ctx context.Context, tx Tx, workspace string, configured []string, by string, now time.Time) (Changed, error) {
	changed := Changed{Workspace: workspace, By: by}
	known, err := tx.Detectors(ctx, workspace)
	if err != nil {
		return changed, err
	}
	for _, detector := range known {
		if slices.Contains(configured, detector) {
			continue
		}
		gaps, err := tx.Gaps(ctx, Selection{Workspace: workspace, Detector: detector})
		if err != nil {
			return changed, err
		}
		history := make([]Change, 0, len(gaps))
		for _, g := range gaps {
			change, err := g.resolve(RuleRetired, by, "detector "+detector+" is not configured any more", now)
			if err != nil {
				return changed, err
			}
			history = append(history, change)
			changed.add(g, change)
		}
		if err := tx.Put(ctx, gaps, history); err != nil {
			return changed, err
		}
	}
	return changed, nil
}
