// Package backup is what a backup plugin implements: copies that survive the
// loss of what they were made from.
package backup

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// ProgressFunc reports how far a call is. It fails when the host has gone away.
type ProgressFunc func(*pluginv1.BackupProgress) error

// Backup saves, verifies and restores. Paths are beneath the root or target of
// the request and nowhere else.
type Backup interface {
	// Save returns when the snapshot is durable, and not before: the host looks
	// for it with List, by its id. Snapshot.files counts regular files. What could
	// not be saved stands in Snapshot.failures; the error is for the whole.
	Save(ctx context.Context, req *pluginv1.SaveRequest, progress ProgressFunc) (*pluginv1.Snapshot, error)
	// List returns snapshots, newest first.
	List(ctx context.Context, req *pluginv1.ListRequest) (*pluginv1.ListResponse, error)
	// Verify reads snapshots back.
	Verify(ctx context.Context, req *pluginv1.VerifyRequest, progress ProgressFunc) (*pluginv1.VerifyResult, error)
	// Restore writes a snapshot beneath the target.
	Restore(ctx context.Context, req *pluginv1.RestoreRequest, progress ProgressFunc) (*pluginv1.RestoreResult, error)
	// Delete forgets snapshots; it fails with FAILED_PRECONDITION for a pinned one.
	Delete(ctx context.Context, req *pluginv1.DeleteRequest) (*pluginv1.DeleteResponse, error)
	// Pin protects a snapshot, or lifts the protection.
	Pin(ctx context.Context, req *pluginv1.PinRequest) (*pluginv1.PinResponse, error)
}

// Pruner is implemented by a [Backup] that has a retention rule. It never
// forgets what is pinned. Progress counts what it removes from the repository.
type Pruner interface {
	Prune(ctx context.Context, req *pluginv1.PruneRequest, progress ProgressFunc) (*pluginv1.PruneResult, error)
}

// Lister is implemented by a [Backup] that can tell what a snapshot holds.
type Lister interface {
	// Contents sends the entries in the order of their paths, directories before
	// what is in them; send fails when the host has gone away.
	Contents(ctx context.Context, req *pluginv1.ContentsRequest, send func([]*pluginv1.SnapshotEntry) error) error
}

// Kind is the backup kind.
var Kind = sdk.Kind[Backup, pluginv1.BackupClient]{
	Name:      "backup",
	Register:  func(s grpc.ServiceRegistrar, impl Backup) { pluginv1.RegisterBackupServer(s, &server{Backup: impl}) },
	NewClient: pluginv1.NewBackupClient,
}

// server puts a Backup on the wire.
type server struct {
	pluginv1.UnsafeBackupServer
	Backup
}

// Save implements [pluginv1.BackupServer].
func (s *server) Save(req *pluginv1.SaveRequest, stream grpc.ServerStreamingServer[pluginv1.SaveResponse]) error {
	snapshot, err := s.Backup.Save(stream.Context(), req, func(p *pluginv1.BackupProgress) error {
		return stream.Send(&pluginv1.SaveResponse{Event: &pluginv1.SaveResponse_Progress{Progress: p}})
	})
	if err != nil {
		return err
	}
	if snapshot.GetId() == "" {
		return noResult("Save", "a snapshot with an id")
	}
	return stream.Send(&pluginv1.SaveResponse{Event: &pluginv1.SaveResponse_Snapshot{Snapshot: snapshot}})
}

// noResult is the error for an implementation that returns neither what it must
// nor an error.
func noResult(method, what string) error {
	return sdk.Errorf(codes.Internal, "NO_RESULT", "%s of the plugin returned neither %s nor an error", method, what).
		WithRemedy("report this to the author of the plugin")
}

// Verify implements [pluginv1.BackupServer].
func (s *server) Verify(req *pluginv1.VerifyRequest, stream grpc.ServerStreamingServer[pluginv1.VerifyResponse]) error {
	result, err := s.Backup.Verify(stream.Context(), req, func(p *pluginv1.BackupProgress) error {
		return stream.Send(&pluginv1.VerifyResponse{Event: &pluginv1.VerifyResponse_Progress{Progress: p}})
	})
	if err != nil {
		return err
	}
	if result == nil {
		return noResult("Verify", "a result")
	}
	return stream.Send(&pluginv1.VerifyResponse{Event: &pluginv1.VerifyResponse_Result{Result: result}})
}

// Restore implements [pluginv1.BackupServer].
func (s *server) Restore(req *pluginv1.RestoreRequest, stream grpc.ServerStreamingServer[pluginv1.RestoreResponse]) error {
	result, err := s.Backup.Restore(stream.Context(), req, func(p *pluginv1.BackupProgress) error {
		return stream.Send(&pluginv1.RestoreResponse{Event: &pluginv1.RestoreResponse_Progress{Progress: p}})
	})
	if err != nil {
		return err
	}
	if result == nil {
		return noResult("Restore", "a result")
	}
	return stream.Send(&pluginv1.RestoreResponse{Event: &pluginv1.RestoreResponse_Result{Result: result}})
}

// Contents implements [pluginv1.BackupServer].
func (s *server) Contents(req *pluginv1.ContentsRequest, stream grpc.ServerStreamingServer[pluginv1.ContentsResponse]) error {
	l, ok := s.Backup.(Lister)
	if !ok {
		return sdk.Errorf(codes.Unimplemented, "NO_CONTENTS", "this plugin cannot list what a snapshot holds").
			WithRemedy("restore the snapshot to an empty directory and look there")
	}
	return l.Contents(stream.Context(), req, func(entries []*pluginv1.SnapshotEntry) error {
		return stream.Send(&pluginv1.ContentsResponse{Entries: entries})
	})
}

// Prune implements [pluginv1.BackupServer].
func (s *server) Prune(req *pluginv1.PruneRequest, stream grpc.ServerStreamingServer[pluginv1.PruneResponse]) error {
	p, ok := s.Backup.(Pruner)
	if !ok {
		return sdk.Errorf(codes.Unimplemented, "NO_RETENTION", "this plugin has no retention").
			WithRemedy("delete snapshots by their ids")
	}
	result, err := p.Prune(stream.Context(), req, func(p *pluginv1.BackupProgress) error {
		return stream.Send(&pluginv1.PruneResponse{Event: &pluginv1.PruneResponse_Progress{Progress: p}})
	})
	if err != nil {
		return err
	}
	if result == nil {
		return noResult("Prune", "a result")
	}
	return stream.Send(&pluginv1.PruneResponse{Event: &pluginv1.PruneResponse_Result{Result: result}})
}
