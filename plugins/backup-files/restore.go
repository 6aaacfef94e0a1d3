package main

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

// Restore implements [backup.Backup].
func (b *files) Restore(ctx context.Context, req *pluginv1.RestoreRequest, tell backup.ProgressFunc) (*pluginv1.RestoreResult, error) {
	s, err := b.ready()
	if err != nil {
		return nil, err
	}
	paths, err := tree.LocalPaths(req.GetPaths(), req.GetRawPaths())
	if err = errors.Join(tree.Absolute("target", req.GetTarget()), err); err != nil {
		return nil, sdk.FromError(err)
	}
	usage, err := s.repo.lock(ctx, usageLock, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer usage.release()
	m, err := s.repo.find(req.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	target, err := tree.OpenTarget(req.GetTarget())
	if err != nil {
		return nil, err
	}
	defer target.Close()
	progress := tree.Progress{Tell: tell}
	r := &tree.Restore{Target: target, Overwrite: req.GetOverwrite(), Copy: s.repo.copy, Count: progress.Add}
	return r.Run(ctx, m.entries, paths)
}

// copy writes the object of an entry.
func (r *repository) copy(_ context.Context, e *tree.Entry, w io.Writer) error {
	return r.readObject(digest(e.Object), e.Stored(), w, true)
}

// find loads a snapshot for a caller.
func (r *repository) find(id string) (*manifest, error) {
	if err := r.live(id); err != nil {
		return nil, err
	}
	m, err := r.load(id)
	var d *damaged
	if errors.As(err, &d) {
		return nil, sdk.Errorf(codes.DataLoss, "SNAPSHOT_DAMAGED", "snapshot %s cannot be read: %w", id, err).
			WithRemedy("verify the repository, and restore another snapshot; docs/backup.md says how to read objects by hand")
	}
	return m, err
}
