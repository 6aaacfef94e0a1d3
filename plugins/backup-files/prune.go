package main

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/plugins/internal/limits"
	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/backup"
)

// Prune implements [backup.Pruner]: it forgets what retention does not keep and
// frees what nothing needs.
func (b *files) Prune(ctx context.Context, req *pluginv1.PruneRequest, tell backup.ProgressFunc) (*pluginv1.PruneResult, error) {
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
	result := &pluginv1.PruneResult{DeletedIds: s.settings.retention.Expired(candidates, s.now())}
	if req.GetDryRun() {
		return result, nil
	}
	if err := s.repo.sweep(); err != nil {
		return nil, err
	}
	if err := s.repo.forget(result.GetDeletedIds()); err != nil {
		return nil, ioError("prune", err)
	}
	result.FreedBytes, result.Note, err = s.repo.collect(&tree.Progress{Tell: tell})
	if err != nil {
		return nil, ioError("prune", err)
	}
	return result, nil
}

// candidates are the snapshots that can be read, oldest first. Retention leaves
// the others to people.
func (r *repository) candidates() ([]limits.Candidate, error) {
	l, err := r.list()
	if err != nil {
		return nil, err
	}
	var all []limits.Candidate
	for _, id := range l.live {
		m, err := r.load(id)
		if err != nil {
			continue
		}
		all = append(all, limits.Candidate{
			ID: id, Created: m.CreatedAt, Pinned: r.pinned(id), Good: r.good(m), Root: string(m.Root), Labels: m.Labels,
		})
	}
	return all, nil
}

func (r *repository) good(m *manifest) bool {
	return len(m.failures) == 0 && !slices.ContainsFunc(m.entries, func(e *tree.Entry) bool {
		return e.Type == tree.TypeFile && r.hasObject(digest(e.Object), e.Stored()) != nil
	})
}
