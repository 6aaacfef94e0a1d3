package startup

import (
	"context"
	"errors"
	"os"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/integration"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
)

// Rollback implements nexus.Patches. What the journal beside the workspace has is
// used first; where that is gone or damaged, the backup that was made before the
// integration, and then the content that is kept with the patch.
func (p *patches) Rollback(ctx context.Context, ref string, r patch.RollbackRequest) (*patch.Patch, patch.Reversal, error) {
	how := patch.Reversal{Token: r.Token}
	if r.Why == "" {
		r.Why = "rolled back"
	}
	one, err := p.BeginRollback(ctx, ref, r.By, r.Why, r.Token)
	if err != nil {
		return nil, how, err
	}
	w, err := p.workspace(one.Workspace)
	if err != nil {
		return nil, how, err
	}
	req := integration.RollbackRequest{
		Root: w.Path, ID: one.ID, Mode: integration.Mode(one.Done.Mode), Branch: one.Done.Branch, File: one.Done.File, Merge: r.Merge, Set: one.Set,
		Before: func(ctx context.Context, paths []string) error {
			snapshot, err := p.backups().Save(ctx, backup.SaveRequest{
				Workspace: one.Workspace, Paths: paths, Reason: backup.ForRollback, Task: one.Task, Patch: one.ID, By: r.By, Whole: true,
			})
			if err == nil {
				how.Backup = snapshot.ID
			}
			return err
		},
	}
	if req.Old, err = p.copies(ctx, one, r.By); err != nil {
		return nil, how, err
	}
	if !one.Dropped {
		req.New = p.Content(one)
	}
	result, err := p.integrator.Rollback(ctx, req)
	if err != nil {
		return nil, how, err
	}
	how.From, how.Notes = result.From, result.Notes
	one, err = p.RolledBack(context.WithoutCancel(ctx), one.ID, r.By, r.Why, how) // it is done
	return one, how, err
}

// copies are where what a patch replaced is kept beside the journal.
func (p *patches) copies(ctx context.Context, one *patch.Patch, by string) ([]integration.Copy, error) {
	snapshots, err := p.backups().ForPatch(ctx, one.ID)
	if err != nil {
		return nil, err
	}
	var all []integration.Copy
	for _, s := range snapshots {
		if s.Reason == backup.ForIntegration {
			all = append(all, p.snapshotCopy(s.ID, by))
		}
	}
	if len(all) == 0 && one.Backup != "" {
		all = append(all, p.snapshotCopy(one.Backup, by)) // which says what has become of it
	}
	return append(all, integration.Copy{Name: "content of the patch", Open: func(context.Context) (sandbox.Content, func() error, error) {
		if one.Dropped {
			return nil, nil, errors.New("it was dropped")
		}
		return p.OldContent(one), func() error { return nil }, nil
	}}), nil
}

// snapshotCopy is a snapshot that is restored beside everything else when it is
// needed.
func (p *patches) snapshotCopy(id, by string) integration.Copy {
	return integration.Copy{Name: "backup " + id, Open: func(ctx context.Context) (sandbox.Content, func() error, error) {
		dir, err := p.backups().Open(ctx, id, by)
		if err != nil {
			return nil, nil, err
		}
		root, err := os.OpenRoot(dir.Path)
		if err != nil {
			return nil, nil, errors.Join(err, dir.Close())
		}
		return patch.OldFrom(root), func() error { return errors.Join(root.Close(), dir.Close()) }, nil
	}}
}
