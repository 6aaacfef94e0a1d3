package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/snapshot"
	"github.com/kopia/kopia/snapshot/snapshotmaintenance"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/limits"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

// pinName is what the kopia client shows as the pin of a snapshot of ours.
const pinName = "sop"

// toChange opens the repository for what is to change its snapshots.
func (p *plugin) toChange(ctx context.Context, what string) (*repository, *view, *catalogue, error) {
	r, err := p.ready()
	if err != nil {
		return nil, nil, nil, err
	}
	v, err := r.writable(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := v.catalogue(ctx)
	if err != nil {
		return nil, nil, nil, ioError(ctx, what, err)
	}
	return r, v, c, nil
}

// Delete implements [backup.Backup].
func (p *plugin) Delete(ctx context.Context, req *pluginv1.DeleteRequest) (*pluginv1.DeleteResponse, error) {
	r, v, c, err := p.toChange(ctx, "delete snapshots")
	if err != nil {
		return nil, err
	}
	for _, id := range req.GetSnapshotIds() {
		if err := c.known(id); err != nil {
			return nil, err
		}
		if c.manifests[id].pinned() {
			return nil, sdk.Errorf(codes.FailedPrecondition, "SNAPSHOT_PINNED", "snapshot %s is pinned", id).WithRemedy("unpin it first")
		}
	}
	if err := r.forget(ctx, v, c, req.GetSnapshotIds()); err != nil {
		return nil, ioError(ctx, "delete snapshots", err)
	}
	return &pluginv1.DeleteResponse{DeletedIds: req.GetSnapshotIds()}, nil
}

// forget deletes snapshots. The record goes first: one that is killed between
// the two leaves a snapshot that is whole.
func (r *repository) forget(ctx context.Context, v *view, c *catalogue, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return r.durably(func() error {
		for _, id := range ids {
			if err := r.store.DeleteBlob(ctx, recordBlob(id)); err != nil && !errors.Is(err, blob.ErrBlobNotFound) {
				return err
			}
		}
		return writing(ctx, v.rep, "delete", func(ctx context.Context, w repo.DirectRepositoryWriter) error {
			for _, id := range ids {
				if m := c.manifests[id]; m != nil {
					if err := w.DeleteManifest(ctx, m.id); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
}

// writing runs change with a writer and writes what it has left.
func writing(ctx context.Context, rep repo.DirectRepository, purpose string, change func(context.Context, repo.DirectRepositoryWriter) error) error {
	return repo.DirectWriteSession(ctx, rep, repo.WriteSessionOptions{Purpose: purpose}, change)
}

// Pin implements [backup.Backup].
func (p *plugin) Pin(ctx context.Context, req *pluginv1.PinRequest) (*pluginv1.PinResponse, error) {
	r, v, c, err := p.toChange(ctx, "pin the snapshot")
	if err != nil {
		return nil, err
	}
	id := req.GetSnapshotId()
	if err := c.known(id); err != nil {
		return nil, err
	}
	m := c.manifests[id]
	if m == nil {
		return nil, damagedRepository(fmt.Errorf("kopia does not know snapshot %s any more", id))
	}
	add, remove := []string{pinName}, []string(nil)
	if !req.GetPinned() {
		add, remove = remove, add
	}
	if m.UpdatePins(add, remove) {
		err := r.durably(func() error {
			return writing(ctx, v.rep, "pin", func(ctx context.Context, w repo.DirectRepositoryWriter) error {
				return snapshot.UpdateSnapshot(ctx, w, &m.Manifest)
			})
		})
		if err != nil {
			return nil, ioError(ctx, "pin the snapshot", err)
		}
	}
	s, _, err := v.listed(ctx, c, id, nil)
	return &pluginv1.PinResponse{Snapshot: s}, err
}

// Prune implements [backup.Pruner]: it forgets what retention does not keep and
// lets kopia's maintenance free what nothing needs.
func (p *plugin) Prune(ctx context.Context, req *pluginv1.PruneRequest, tell backup.ProgressFunc) (*pluginv1.PruneResult, error) {
	r, err := p.ready()
	if err != nil {
		return nil, err
	}
	v, err := r.writable(ctx)
	if err != nil {
		return nil, err
	}
	c, err := v.catalogue(ctx)
	if err != nil {
		return nil, ioError(ctx, "prune", err)
	}
	candidates, why, err := v.candidates(ctx, c)
	if err != nil {
		return nil, ioError(ctx, "prune", err)
	}
	result := &pluginv1.PruneResult{DeletedIds: r.settings.retention.Expired(candidates, p.time()), Note: why}
	if req.GetDryRun() {
		return result, nil
	}
	stop := r.telling(tell)
	defer stop()
	if err := r.forget(ctx, v, c, result.GetDeletedIds()); err != nil {
		return nil, ioError(ctx, "prune", err)
	}
	if why == "" {
		result.FreedBytes, result.Note, err = r.maintain(ctx, v)
	}
	if r.dir != nil {
		err = errors.Join(err, r.dir.sweep(time.Now()))
	}
	if err != nil {
		return nil, ioError(ctx, "free space", err)
	}
	return result, nil
}

// progressEvery is how often is told how far a call is.
const progressEvery = 200 * time.Millisecond

// telling tells how many blobs have been removed since it was called, until stop
// returns, and at the end. What it cannot tell is not missed: the host is gone
// then, and the context of the call with it. Without tell nobody listens.
func (r *repository) telling(tell backup.ProgressFunc) (stop func()) {
	if tell == nil {
		return func() {}
	}
	before, ended := r.removed.Load(), make(chan struct{})
	now := func() error { return tell(&pluginv1.BackupProgress{Files: r.removed.Load() - before}) }
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				if now() != nil {
					return
				}
			}
		}
	})
	return func() {
		close(ended)
		done.Wait()
		_ = now()
	}
}

// candidates are the snapshots that can be read, oldest first. Retention leaves
// the others to people, and why says that no space may be freed: what they need
// is not known.
func (v *view) candidates(ctx context.Context, c *catalogue) (all []limits.Candidate, why string, err error) {
	for _, id := range c.ids {
		h, err := v.describe(ctx, c, id)
		switch {
		case ctx.Err() != nil:
			return nil, "", ctx.Err()
		case err != nil || c.manifests[id] == nil:
			why = fmt.Sprintf("no space was freed: snapshot %s is damaged; delete it to give its files up", id)
			continue
		}
		all = append(all, limits.Candidate{
			ID: id, Created: h.CreatedAt, Pinned: c.manifests[id].pinned(), Good: len(h.Failures) == 0, Root: string(h.Root), Labels: h.Labels,
		})
	}
	if len(c.damaged) > 0 {
		why = "no space was freed: some of what kopia says of its snapshots cannot be read; verify names it"
	}
	return all, why, nil
}

// pendingNote says what kopia does for the sake of others who may be saving.
const pendingNote = "kopia frees the space of what was forgotten about a day later, in the maintenance of that day"

// maintain runs what is due of kopia's maintenance, which by itself waits until
// nobody can still need what it deletes.
func (r *repository) maintain(ctx context.Context, v *view) (freed int64, note string, err error) {
	before, err := r.size(ctx)
	if err != nil {
		return 0, "", err
	}
	err = r.durably(func() error {
		return writing(ctx, v.rep, "maintenance", func(ctx context.Context, w repo.DirectRepositoryWriter) error {
			return snapshotmaintenance.Run(ctx, w, maintenance.ModeAuto, false, maintenance.SafetyFull)
		})
	})
	var other maintenance.NotOwnedError
	if errors.As(err, &other) {
		return 0, fmt.Sprintf("no space was freed here: that is up to %s, who owns the maintenance of the repository", other.Owner), nil
	}
	if err != nil {
		return 0, "", err
	}
	after, err := r.size(ctx)
	if err != nil {
		return 0, "", err
	}
	if before > after {
		return before - after, "", nil
	}
	return 0, pendingNote, nil
}

// size is how many bytes the packs of the repository have.
func (r *repository) size(ctx context.Context) (total int64, err error) {
	err = r.store.ListBlobs(ctx, "", func(m blob.Metadata) error {
		if isPack(m.BlobID) {
			total += m.Length
		}
		return nil
	})
	return total, err
}

// packPrefixes begin the names of the blobs that hold contents.
var packPrefixes = []string{"p", "q"}

func isPack(id blob.ID) bool {
	return slices.ContainsFunc(packPrefixes, func(p string) bool { return strings.HasPrefix(string(id), p) })
}
