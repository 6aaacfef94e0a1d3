package backup

import (
	"context"
	"time"
)

// Retention says which snapshots of a schedule are kept. The zero value keeps
// all.
type Retention struct {
	Last   int           // so many, whatever their age
	Within time.Duration // and those that are younger
}

// retain deletes the snapshots of a schedule that its retention does not keep.
// It never deletes one that is pinned, the last whole one, or one from the
// future: a clock that was wrong deletes nothing.
func (s *Service) retain(ctx context.Context, schedule string, keep Retention) error {
	if keep == (Retention{}) {
		return nil
	}
	var all []*Snapshot // latest first
	for f := (Filter{Schedule: schedule, States: []State{Kept}}); ; {
		page, err := s.Store.List(ctx, f)
		if err != nil {
			return err
		}
		all = append(all, page.Snapshots...)
		if f.Token = page.Next; page.Next == "" {
			break
		}
	}
	expired := keep.expired(all, s.Now())
	for len(expired) > 0 {
		n := min(len(expired), MaxPage)
		if _, err := s.Delete(ctx, expired[:n], actor); err != nil {
			return err
		}
		expired = expired[n:]
	}
	return nil
}

// expired are the ids of the snapshots, of those given latest first, that are not
// kept.
func (r Retention) expired(all []*Snapshot, now time.Time) (ids []string) {
	whole := false // was seen
	for i, snap := range all {
		lastWhole := snap.Whole() && !whole
		whole = whole || snap.Whole()
		young := r.Within > 0 && now.Sub(snap.CreatedAt) < r.Within
		if !snap.Pinned && !lastWhole && i >= r.Last && !young {
			ids = append(ids, snap.ID)
		}
	}
	return ids
}
