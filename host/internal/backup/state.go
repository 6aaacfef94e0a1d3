package backup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// SaveState makes a snapshot of the host's own state: a consistent copy of its
// database, its keys and its configuration. Of r, the workspace and the paths
// are not looked at. One state is saved at a time.
func (s *Service) SaveState(ctx context.Context, r SaveRequest) (snap *Snapshot, err error) {
	r.Workspace, r.Paths = "", nil
	if _, _, err := s.plugin(r.Plugin); err != nil {
		return nil, err
	}
	select {
	case s.staging <- struct{}{}:
		defer func() { <-s.staging }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Always the same directory: repositories tell by it what is new.
	dir := filepath.Join(s.Scratch, "state")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	if err := s.StageState(ctx, dir); err != nil {
		s.recordFailure(ctx, &Snapshot{Plugin: r.Plugin, Reason: r.Reason, Schedule: r.Schedule, By: r.By, CreatedAt: s.Now().UTC()}, err)
		return nil, err
	}
	return s.save(ctx, r, dir)
}
