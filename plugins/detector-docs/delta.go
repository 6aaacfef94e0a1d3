package main

import (
	"strings"

	"github.com/sop-host/sop/sdk/detector"
)

// delta is what a pass has to look at.
type delta struct {
	// changed is sorted by path.
	changed []detector.File
	removed []string
	// whole says that nothing is known from before and changed is everything.
	whole bool
}

// none says that nothing has changed since the last scan.
func (d delta) none() bool { return !d.whole && len(d.changed) == 0 && len(d.removed) == 0 }

// deltaOf is what scan tells to be new, or everything when the last scan
// applied other rules: what it left out was never reported.
func deltaOf(scan *detector.Scan) delta {
	var enabled strings.Builder
	for _, r := range rules {
		if scan.Enabled(r.GetId()) {
			enabled.WriteString(r.GetId() + " ")
		}
	}
	scan.Keep("rules", enabled.String())
	if scan.Incremental() && scan.Kept("rules") == enabled.String() {
		return delta{changed: scan.Changed(), removed: scan.Removed()}
	}
	return delta{changed: scan.Files(), whole: true}
}

// recall returns what the last scan kept under key, or what fresh makes, and
// keeps it for the next. It may be changed in place: after a failed scan the
// SDK forgets it.
func recall[T any](scan *detector.Scan, d delta, key string, fresh func() *T) *T {
	state, ok := scan.Kept(key).(*T)
	if !ok || d.whole {
		state = fresh()
	}
	scan.Keep(key, state)
	return state
}
