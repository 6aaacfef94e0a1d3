package backup

import (
	"context"
	"sync"

	"github.com/sop-host/sop/host/internal/event"
)

// Activity is how far a long call is. Expected is about how much there will be;
// zero: nobody knows.
type Activity struct {
	Progress
	Expected Progress
}

// activities are the calls under way that somebody may watch, by their keys.
type activities struct {
	mu      sync.Mutex
	all     map[string]Activity
	changed event.Notice
}

// begin makes a call known under a key, until end is called. What tell is told
// goes to also, too. Without a key nobody watches.
func (a *activities) begin(key string, expected Progress, also func(Progress)) (tell func(Progress), end func()) {
	if key == "" {
		return also, func() {}
	}
	a.set(key, Activity{Expected: expected})
	tell = func(p Progress) {
		a.set(key, Activity{Progress: p, Expected: expected})
		if also != nil {
			also(p)
		}
	}
	return tell, func() {
		a.mu.Lock()
		delete(a.all, key)
		a.mu.Unlock()
		a.changed.Tell()
	}
}

func (a *activities) set(key string, to Activity) {
	a.mu.Lock()
	if a.all == nil {
		a.all = make(map[string]Activity)
	}
	a.all[key] = to
	a.mu.Unlock()
	a.changed.Tell()
}

func (a *activities) get(key string) (Activity, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, ok := a.all[key]
	return found, ok
}

// Watch tells how far the call with a key is, whenever that changes, until it
// ends or ctx is done. It waits for a call that has not begun.
func (s *Service) Watch(ctx context.Context, key string, tell func(Activity) error) error {
	seen := false
	var last Activity
	for {
		changed := s.under.changed.Wait()
		now, ok := s.under.get(key)
		switch {
		case seen && !ok:
			return nil
		case ok && (!seen || now != last):
			if err := tell(now); err != nil {
				return err
			}
			seen, last = true, now
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// expected is about how much a save will be, by the last one of the same.
func (s *Service) expected(ctx context.Context, r SaveRequest) Progress {
	if r.Key == "" || len(r.Paths) > 0 {
		return Progress{}
	}
	page, err := s.Store.List(ctx, Filter{Workspace: r.Workspace, States: []State{Kept}, Limit: 20})
	if err != nil {
		return Progress{} // it is only for a bar on a terminal
	}
	for _, snap := range page.Snapshots {
		if len(snap.Paths) == 0 && snap.Workspace == r.Workspace {
			return Progress{Files: snap.Files, Bytes: snap.Bytes}
		}
	}
	return Progress{}
}
