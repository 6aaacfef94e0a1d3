package startup

import (
	"cmp"
	"context"
	"errors"
	"os"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/integration"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
)

// Rollback implements nexus.Patches. What the journal beside the workspace has is
// used first; where that is gone or damaged, the backup that was made before the
// integration, and then the content that is kept with the patch.
func (p *patches) Rollback(ctx context.Context, ref string, r patch.RollbackRequest) (*patch.Patch, patch.Reversal, error) {
	how := patch.Reversal{Token: r.Token}
	one, err := p.BeginRollback(ctx, ref, r.By, cmp.Or(r.Why, "rollback has begun"), r.Token)
	if err != nil {
		return nil, how, err
	}
	said := context.WithoutCancel(ctx)
	if err := p.takeBack(ctx, one, r, &how); err != nil {
		_, unsaid := p.RollbackRefused(said, one.ID, r.By, sdk.FromError(err).Message, r.Token)
		return nil, how, errors.Join(err, unsaid)
	}
	one, err = p.RolledBack(said, one.ID, r.By, cmp.Or(r.Why, "rolled back"), how)
	return one, how, err
}

// TryRollback implements nexus.Patches: it says whether Rollback would be done.
func (p *patches) TryRollback(ctx context.Context, ref string, r patch.RollbackRequest) (*patch.Patch, error) {
	one, err := p.CheckRollback(ctx, ref)
	if err != nil {
		return nil, err
	}
	req, err := p.reversal(ctx, one, r)
	if err != nil {
		return nil, err
	}
	req.CheckOnly = true
	_, err = p.integrator.Rollback(ctx, req)
	return one, err
}

// takeBack takes a patch out of its workspace, and says how.
func (p *patches) takeBack(ctx context.Context, one *patch.Patch, r patch.RollbackRequest, how *patch.Reversal) error {
	req, err := p.reversal(ctx, one, r)
	if err != nil {
		return err
	}
	req.Before = func(ctx context.Context, paths []string) error {
		snapshot, err := p.backups().Save(ctx, backup.SaveRequest{
			Workspace: one.Workspace, Paths: paths, Reason: backup.ForRollback, Task: one.Task, Patch: one.ID, By: r.By, Whole: true,
		})
		if err == nil {
			how.Backup = snapshot.ID
		}
		return err
	}
	result, err := p.integrator.Rollback(ctx, req)
	if err != nil {
		return err
	}
	how.From, how.Notes = result.From, result.Notes
	return nil
}

// reversal is how a patch is taken back. Whoever does adds Before.
func (p *patches) reversal(ctx context.Context, one *patch.Patch, r patch.RollbackRequest) (integration.RollbackRequest, error) {
	w, err := p.workspace(one.Workspace)
	if err != nil {
		return integration.RollbackRequest{}, err
	}
	req := integration.RollbackRequest{
		Root: w.Path, ID: one.ID, Mode: integration.Mode(one.Done.Mode), Branch: one.Done.Branch, File: one.Done.File, Merge: r.Merge, Set: one.Set,
	}
	if !one.Dropped {
		req.New = p.Content(one)
	}
	req.Old, err = p.copies(ctx, one, r.By)
	return req, err
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
