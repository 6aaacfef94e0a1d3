package main

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Prune implements [backup.Pruner]: it forgets what retention does not keep and
// frees what nothing needs.
func (b *files) Prune(ctx context.Context, req *pluginv1.PruneRequest) (*pluginv1.PruneResponse, error) {
	s, err := b.ready()
	if err != nil {
		return nil, err
	}
	unlock, err := s.repo.lockBoth(ctx, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer unlock()
	candidates, err := s.repo.candidates()
	if err != nil {
		return nil, err
	}
	resp := &pluginv1.PruneResponse{DeletedIds: s.settings.expired(candidates, s.now())}
	if req.GetDryRun() {
		return resp, nil
	}
	if err := s.repo.sweep(); err != nil {
		return nil, err
	}
	if err := s.repo.forget(resp.GetDeletedIds()); err != nil {
		return nil, ioError("prune", err)
	}
	resp.FreedBytes, resp.Note, err = s.repo.collect()
	if err != nil {
		return nil, ioError("prune", err)
	}
	return resp, nil
}

// candidate is a snapshot as retention sees it.
type candidate struct {
	id      string
	created time.Time
	pinned  bool
	// good says that nothing failed and nothing is missing.
	good bool
	root tree.Path
	// labels of the snapshot.
	labels map[string]string
}

// candidates are the snapshots that can be read, oldest first. Retention leaves
// the others to people.
func (r *repository) candidates() ([]candidate, error) {
	l, err := r.list()
	if err != nil {
		return nil, err
	}
	var all []candidate
	for _, id := range l.live {
		m, err := r.load(id)
		if err != nil {
			continue
		}
		all = append(all, candidate{id, m.CreatedAt, r.pinned(id), r.good(m), m.Root, m.Labels})
	}
	return all, nil
}

func (r *repository) good(m *manifest) bool {
	return len(m.failures) == 0 && !slices.ContainsFunc(m.entries, func(e *tree.Entry) bool {
		return e.Type == tree.TypeFile && r.hasObject(digest(e.Object), e.Stored()) != nil
	})
}

// expired are the candidates that retention does not keep. A snapshot from the
// future is young: a clock that was wrong deletes nothing.
func (s *settings) expired(all []candidate, now time.Time) (ids []string) {
	if s.keepLast == 0 && s.keepWithin == 0 {
		return nil
	}
	good := make(map[string]bool) // sets of which a good one was seen
	for i, c := range slices.Backward(all) {
		key := s.set(c)
		lastGood := c.good && !good[key]
		good[key] = good[key] || c.good
		recent := len(all)-i <= s.keepLast
		young := s.keepWithin > 0 && now.Sub(c.created) < s.keepWithin
		if !c.pinned && !lastGood && !recent && !young {
			ids = append(ids, c.id)
		}
	}
	slices.Reverse(ids)
	return ids
}

// set is the key of the set that a snapshot belongs to.
func (s *settings) set(c candidate) string {
	parts := [][]byte{[]byte(c.root)}
	for _, name := range s.groupBy {
		parts = append(parts, []byte(c.labels[name]))
	}
	key, _ := json.Marshal(parts) // bytes always can be
	return string(key)
}
