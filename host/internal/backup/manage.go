package backup

import (
	"context"
	"slices"
	"strconv"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// invalid is the error for a field of a request.
func invalid(field, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, "BACKUP_REQUEST", format, args...).WithField(field, "")
}

// Pin protects a snapshot from retention and deletion, or lifts the protection.
func (s *Service) Pin(ctx context.Context, ref string, pinned bool, by string) (*Snapshot, error) {
	snap, err := s.Store.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	_, client, err := s.plugin(snap.Plugin)
	if err != nil {
		return nil, err
	}
	err = s.granted(ctx, snap.Plugin, snap.Workspace, "pin "+snap.ID, func(secret string) error {
		if err := s.genuine(ctx, client, secret, snap); err != nil {
			return err
		}
		_, err := client.Pin(ctx, &pluginv1.PinRequest{Token: secret, SnapshotId: snap.Ref, Pinned: pinned})
		return err
	})
	if err != nil {
		return nil, err
	}
	action := "unpin"
	if pinned {
		action = "pin"
	}
	err = s.record(ctx, func(ctx context.Context, tx Tx) error {
		if snap, err = tx.Get(ctx, snap.ID); err != nil {
			return err
		}
		snap.Pinned, snap.ChangedAt = pinned, s.Now().UTC()
		if err := tx.Put(ctx, snap); err != nil {
			return err
		}
		return tx.Record(ctx, Deed{
			At: snap.ChangedAt, Action: action, By: by, Snapshot: snap.ID, Workspace: snap.Workspace, Attributes: map[string]string{"plugin": snap.Plugin},
		})
	})
	return snap, err
}

// Delete forgets snapshots of any plugins, all or none of one plugin. A pinned
// one is an error.
func (s *Service) Delete(ctx context.Context, refs []string, by string) ([]*Snapshot, error) {
	doomed, err := s.doomed(ctx, refs)
	if err != nil {
		return nil, err
	}
	var deleted []*Snapshot
	for plugin, snaps := range doomed {
		_, client, err := s.plugin(plugin)
		if err != nil {
			return deleted, err
		}
		req := &pluginv1.DeleteRequest{}
		for _, snap := range snaps {
			req.SnapshotIds = append(req.SnapshotIds, snap.Ref)
		}
		err = s.granted(ctx, plugin, "", "delete", func(secret string) error {
			req.Token = secret
			_, err := client.Delete(ctx, req)
			return err
		})
		if err != nil {
			return deleted, err
		}
		if err := s.forget(ctx, plugin, req.GetSnapshotIds(), by, "deleted by request"); err != nil {
			return deleted, err
		}
		deleted = append(deleted, snaps...)
	}
	return deleted, nil
}

// CheckDelete says whether Delete would ask the plugins.
func (s *Service) CheckDelete(ctx context.Context, refs []string) ([]*Snapshot, error) {
	doomed, err := s.doomed(ctx, refs)
	var all []*Snapshot
	for _, snaps := range doomed {
		all = append(all, snaps...)
	}
	return all, err
}

// doomed are the snapshots that refs name, by plugin.
func (s *Service) doomed(ctx context.Context, refs []string) (map[string][]*Snapshot, error) {
	if len(refs) == 0 || len(refs) > MaxPage {
		return nil, invalid("ids", "name between 1 and %d snapshots", MaxPage)
	}
	out := make(map[string][]*Snapshot)
	for _, ref := range refs {
		snap, err := s.Store.Get(ctx, ref)
		switch {
		case err != nil:
			return nil, err
		case snap.State == Deleted:
			return nil, sdk.Errorf(codes.FailedPrecondition, "BACKUP_DELETED", "snapshot %s was deleted: %s", snap.ID, snap.Why)
		case snap.Pinned:
			return nil, sdk.Errorf(codes.FailedPrecondition, "SNAPSHOT_PINNED", "snapshot %s is pinned", snap.ID).
				WithRemedy("lift that first: sop backup pin --off %s", snap.ID)
		}
		if !slices.ContainsFunc(out[snap.Plugin], func(other *Snapshot) bool { return other.ID == snap.ID }) {
			out[snap.Plugin] = append(out[snap.Plugin], snap)
		}
	}
	return out, nil
}

// Pruned says what retention did.
type Pruned struct {
	Plugin  string
	Deleted []*Snapshot
	// Unknown are snapshots that were deleted and that the host had no record of,
	// by the plugin's ids.
	Unknown []string
	Freed   int64
	Note    string // why space was not freed; empty: it was
}

// PruneRequest says which plugin is to forget what.
type PruneRequest struct {
	Plugin   string // empty: the usual one
	DryRun   bool   // say what would be forgotten, and forget nothing
	By       string
	Progress func(Progress) // of what is removed from the repository; nil is fine
	Key      string         // by which [Service.Watch] finds it; empty: not at all
}

// Prune has a plugin forget what its retention no longer keeps.
func (s *Service) Prune(ctx context.Context, r PruneRequest) (*Pruned, error) {
	name, client, err := s.plugin(r.Plugin)
	if err != nil {
		return nil, err
	}
	tell, end := s.under.begin(r.Key, Progress{}, r.Progress)
	defer end()
	var result *pluginv1.PruneResult
	err = s.granted(ctx, name, "", "prune", func(secret string) error {
		stream, err := client.Prune(ctx, &pluginv1.PruneRequest{Token: secret, DryRun: r.DryRun})
		result, err = follow(stream, err, (*pluginv1.PruneResponse).GetResult, tell)
		return err
	})
	if !r.DryRun {
		s.pruned(name) // also when it failed: it is tried again another day
	}
	if err != nil {
		return nil, err
	}
	out := &Pruned{Plugin: name, Freed: result.GetFreedBytes(), Note: clip(result.GetNote())}
	err = s.record(ctx, func(ctx context.Context, tx Tx) error {
		out.Deleted, out.Unknown = nil, nil
		all, err := tx.Of(ctx, name)
		if err != nil {
			return err
		}
		out.sort(all, result.GetDeletedIds())
		if r.DryRun {
			return nil
		}
		for _, snap := range out.Deleted {
			if err := s.moved(ctx, tx, snap.ID, Deleted, "delete", r.By, "retention"); err != nil {
				return err
			}
		}
		return tx.Record(ctx, Deed{At: s.Now().UTC(), Action: "prune", By: r.By, Plugin: name, Attributes: map[string]string{
			"deleted": strconv.Itoa(len(result.GetDeletedIds())), "freed_bytes": strconv.FormatInt(out.Freed, 10),
		}})
	})
	return out, err
}

// sort tells the deleted snapshots that the host knows from others.
func (p *Pruned) sort(known []*Snapshot, refs []string) {
	byRef := make(map[string]*Snapshot, len(known))
	for _, snap := range known {
		byRef[snap.Ref] = snap
	}
	for _, ref := range refs {
		if snap := byRef[ref]; snap != nil {
			p.Deleted = append(p.Deleted, snap)
		} else {
			p.Unknown = append(p.Unknown, clip(ref))
		}
	}
}

// forget records that snapshots of a plugin were deleted.
func (s *Service) forget(ctx context.Context, plugin string, refs []string, by, why string) error {
	return s.record(ctx, func(ctx context.Context, tx Tx) error {
		all, err := tx.Of(ctx, plugin)
		if err != nil {
			return err
		}
		for _, snap := range all {
			if !slices.Contains(refs, snap.Ref) {
				continue
			}
			if err := s.moved(ctx, tx, snap.ID, Deleted, "delete", by, why); err != nil {
				return err
			}
		}
		return nil
	})
}
