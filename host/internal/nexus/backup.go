package nexus

import (
	"context"

	"github.com/sop-host/sop/host/internal/backup"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Backups are the snapshots that backup plugins keep; *backup.Service is one.
type Backups interface {
	Get(ctx context.Context, ref string) (*backup.Snapshot, error)
	List(ctx context.Context, filter backup.Filter) (backup.Page, error)
	// Contents sends what a snapshot holds, some entries at a time.
	Contents(ctx context.Context, req backup.ContentsRequest, send func([]*pluginv1.SnapshotEntry) error) error
	Compare(ctx context.Context, req backup.CompareRequest) (*backup.Comparison, error)
	// Watch tells how far the call with a key is, until it ends.
	Watch(ctx context.Context, key string, tell func(backup.Activity) error) error
	// Save answers when the snapshot is durable; SaveState likewise for the host's
	// own state, and CheckSave says whether it would ask the plugin.
	Save(ctx context.Context, req backup.SaveRequest) (*backup.Snapshot, error)
	SaveState(ctx context.Context, req backup.SaveRequest) (*backup.Snapshot, error)
	CheckSave(req backup.SaveRequest) error
	Verify(ctx context.Context, req backup.VerifyRequest) (*backup.Verification, error)
	Restore(ctx context.Context, req backup.RestoreRequest) (*backup.Restored, error)
	Pin(ctx context.Context, ref string, pinned bool, by string) (*backup.Snapshot, error)
	Delete(ctx context.Context, refs []string, by string) ([]*backup.Snapshot, error)
	// CheckDelete says what Delete would delete.
	CheckDelete(ctx context.Context, refs []string) ([]*backup.Snapshot, error)
	Prune(ctx context.Context, r backup.PruneRequest) (*backup.Pruned, error)
}
