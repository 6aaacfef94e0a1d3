package backup

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever the rule: what is pinned, young or among the last stays, and so does
// the last whole one; all else goes.
func TestRetention(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		keep := Retention{Last: rapid.IntRange(0, 4).Draw(t, "last"), Within: time.Duration(rapid.IntRange(0, 50).Draw(t, "within")) * time.Hour}
		var all []*Snapshot
		for i := range rapid.IntRange(0, 12).Draw(t, "snapshots") {
			all = append(all, &Snapshot{
				ID: string(rune('a' + i)), Pinned: rapid.Bool().Draw(t, "pinned"), Failed: rapid.IntRange(0, 1).Draw(t, "failed"),
				CreatedAt: now.Add(-time.Duration(rapid.IntRange(-10, 100).Draw(t, "age")) * time.Hour),
			})
		}
		slices.SortStableFunc(all, func(a, b *Snapshot) int { return b.CreatedAt.Compare(a.CreatedAt) })
		gone := keep.expired(all, now)
		lastWhole := slices.IndexFunc(all, (*Snapshot).Whole)
		for i, snap := range all {
			want := !snap.Pinned && i != lastWhole && i >= keep.Last && (keep.Within == 0 || now.Sub(snap.CreatedAt) >= keep.Within)
			if slices.Contains(gone, snap.ID) != want {
				t.Errorf("%+v of %+v goes: %v, want %v", *snap, keep, !want, want)
			}
		}
	})
}
