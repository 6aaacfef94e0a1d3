package api

import (
	"context"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/nexus"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// backupService serves sop.api.v1.Backup.
type backupService struct{ *nexus.Nexus }

// ListBackups implements the rpc.
func (s *backupService) ListBackups(ctx context.Context, req *connect.Request[apiv1.ListBackupsRequest]) (*connect.Response[apiv1.ListBackupsResponse], error) {
	filter, err := backupFilter(req.Msg)
	if err != nil {
		return nil, err
	}
	page, err := s.Backups.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.ListBackupsResponse{Backups: backupRecords(page.Snapshots), NextPageToken: page.Next}), nil
}

// backupFilter converts the request.
func backupFilter(req *apiv1.ListBackupsRequest) (backup.Filter, error) {
	f := backup.Filter{
		Plugin: req.GetPlugin(), Workspace: req.GetWorkspace(), Task: req.GetTask(), Patch: req.GetPatch(), Schedule: req.GetSchedule(),
		Limit: pageSize(req.GetPageSize()), Token: req.GetPageToken(),
	}
	var err error
	if f.Where, err = parseFilter(req.GetFilter(), backup.ListFields); err != nil {
		return f, err
	}
	if f.Order, err = parseOrder(req.GetOrderBy(), backup.ListFields); err != nil {
		return f, err
	}
	for _, name := range req.GetStates() {
		if !slices.Contains(backup.States(), backup.State(name)) {
			return f, sdk.Errorf(codes.InvalidArgument, "BACKUP_STATE", "there is no state %q of a backup", name).
				WithRemedy("the states are %v", backup.States()).WithField("states", "")
		}
		f.States = append(f.States, backup.State(name))
	}
	if len(f.States) == 0 {
		f.States = []backup.State{backup.Kept, backup.Lost}
	}
	return f, nil
}

// GetBackup implements the rpc.
func (s *backupService) GetBackup(ctx context.Context, req *connect.Request[apiv1.GetBackupRequest]) (*connect.Response[apiv1.GetBackupResponse], error) {
	snap, err := s.Backups.Get(ctx, req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.GetBackupResponse{Backup: BackupRecord(snap)}), nil
}

// ReadBackupContents implements the rpc.
func (s *backupService) ReadBackupContents(ctx context.Context, req *connect.Request[apiv1.ReadBackupContentsRequest], stream *connect.ServerStream[apiv1.ReadBackupContentsResponse]) error {
	r := backup.ContentsRequest{Snapshot: req.Msg.GetId(), Paths: textPaths(req.Msg.GetPaths())}
	return s.Backups.Contents(ctx, r, func(entries []*pluginv1.SnapshotEntry) error {
		return stream.Send(&apiv1.ReadBackupContentsResponse{Entries: backupEntries(entries)})
	})
}

// DiffBackup implements the rpc.
func (s *backupService) DiffBackup(ctx context.Context, req *connect.Request[apiv1.DiffBackupRequest]) (*connect.Response[apiv1.DiffBackupResponse], error) {
	c, err := s.Backups.Compare(ctx, backup.CompareRequest{
		Snapshot: req.Msg.GetId(), Against: req.Msg.GetAgainst(), Target: req.Msg.GetTarget(), Paths: textPaths(req.Msg.GetPaths()), Thorough: req.Msg.GetThorough(),
		Key: watchKey(ctx, req.Msg.GetProgressKey()),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.DiffBackupResponse{Comparison: backupComparison(c)}), nil
}

// WatchBackupProgress implements the rpc.
func (s *backupService) WatchBackupProgress(ctx context.Context, req *connect.Request[apiv1.WatchBackupProgressRequest], stream *connect.ServerStream[apiv1.WatchBackupProgressResponse]) error {
	if req.Msg.GetKey() == "" {
		return sdk.Errorf(codes.InvalidArgument, "BACKUP_REQUEST", "no key is given").WithRemedy("give the idempotency key of the call").WithField("key", "")
	}
	if err := stream.Send(nil); err != nil { // the caller may begin
		return err
	}
	return s.Backups.Watch(ctx, watchKey(ctx, req.Msg.GetKey()), func(a backup.Activity) error {
		return stream.Send(&apiv1.WatchBackupProgressResponse{Work: backupWork(a)})
	})
}

// watchKey keeps callers apart from each other.
func watchKey(ctx context.Context, key string) string {
	if key == "" {
		return ""
	}
	return by(ctx) + "\x00" + key
}

// CreateBackup implements the rpc.
func (s *backupService) CreateBackup(ctx context.Context, req *connect.Request[apiv1.CreateBackupRequest]) (*connect.Response[apiv1.CreateBackupResponse], error) {
	m := req.Msg
	if m.GetState() == (m.GetWorkspace() != "") || m.GetState() && len(m.GetPaths()) > 0 {
		return nil, sdk.Errorf(codes.InvalidArgument, "BACKUP_REQUEST", "a backup is of a workspace, with paths of it or not, or of the host's own state").
			WithRemedy("name a workspace, or set state").WithField("workspace", "")
	}
	r := backup.SaveRequest{
		Plugin: m.GetPlugin(), Workspace: m.GetWorkspace(), Paths: textPaths(m.GetPaths()), Reason: backup.ForRequest, By: by(ctx),
		Key: watchKey(ctx, m.GetIdempotencyKey()),
	}
	if m.GetValidateOnly() {
		return connect.NewResponse(&apiv1.CreateBackupResponse{}), s.Backups.CheckSave(r)
	}
	save := s.Backups.Save
	if m.GetState() {
		save = s.Backups.SaveState
	}
	snap, err := save(ctx, r)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.CreateBackupResponse{Backup: BackupRecord(snap)}), nil
}

// VerifyBackups implements the rpc.
func (s *backupService) VerifyBackups(ctx context.Context, req *connect.Request[apiv1.VerifyBackupsRequest], stream *connect.ServerStream[apiv1.VerifyBackupsResponse]) error {
	var gone error // of who asks; the verification ends with the context
	v, err := s.Backups.Verify(ctx, backup.VerifyRequest{
		Plugin: req.Msg.GetPlugin(), Snapshots: req.Msg.GetIds(), Data: req.Msg.GetData(), By: by(ctx),
		Progress: func(p backup.Progress) {
			if gone == nil {
				gone = stream.Send(&apiv1.VerifyBackupsResponse{Event: &apiv1.VerifyBackupsResponse_Work{Work: backupWork(backup.Activity{Progress: p})}})
			}
		},
	})
	if err != nil {
		return err
	}
	return stream.Send(&apiv1.VerifyBackupsResponse{Event: &apiv1.VerifyBackupsResponse_Result{Result: backupVerification(v)}})
}

// RestoreBackup implements the rpc.
func (s *backupService) RestoreBackup(ctx context.Context, req *connect.Request[apiv1.RestoreBackupRequest]) (*connect.Response[apiv1.RestoreBackupResponse], error) {
	m := req.Msg
	if m.GetTarget() == "" && !m.GetInPlace() {
		return nil, sdk.Errorf(codes.InvalidArgument, "BACKUP_TARGET", "it is not said where to restore to").
			WithRemedy("name an absolute directory, or say that it shall be where the snapshot was made").WithField("target", "")
	}
	out, err := s.Backups.Restore(ctx, backup.RestoreRequest{
		Snapshot: m.GetId(), Target: m.GetTarget(), InPlace: m.GetInPlace(), Paths: textPaths(m.GetPaths()), Overwrite: m.GetOverwrite(),
		DryRun: m.GetValidateOnly(), By: by(ctx), Key: watchKey(ctx, m.GetIdempotencyKey()),
	})
	if err != nil {
		return nil, err
	}
	resp := &apiv1.RestoreBackupResponse{
		Id: out.Snapshot.ID, Target: out.Target, Files: out.Files, Bytes: out.Bytes, Failures: pathFailures(out.Failures), Failed: int64(out.Failed),
		Warnings: pathFailures(out.Warnings), Warned: int64(out.Warned),
	}
	if out.Changes != nil {
		resp.Changes = backupComparison(out.Changes)
	}
	return connect.NewResponse(resp), nil
}

// PinBackup implements the rpc.
func (s *backupService) PinBackup(ctx context.Context, req *connect.Request[apiv1.PinBackupRequest]) (*connect.Response[apiv1.PinBackupResponse], error) {
	var snap *backup.Snapshot
	var err error
	if req.Msg.GetValidateOnly() {
		snap, err = s.Backups.Get(ctx, req.Msg.GetId())
	} else {
		snap, err = s.Backups.Pin(ctx, req.Msg.GetId(), !req.Msg.GetOff(), by(ctx))
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.PinBackupResponse{Backup: BackupRecord(snap)}), nil
}

// DeleteBackups implements the rpc.
func (s *backupService) DeleteBackups(ctx context.Context, req *connect.Request[apiv1.DeleteBackupsRequest]) (*connect.Response[apiv1.DeleteBackupsResponse], error) {
	var gone []*backup.Snapshot
	var err error
	if req.Msg.GetValidateOnly() {
		gone, err = s.Backups.CheckDelete(ctx, req.Msg.GetIds())
	} else {
		gone, err = s.Backups.Delete(ctx, req.Msg.GetIds(), by(ctx))
	}
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.DeleteBackupsResponse{Backups: backupRecords(gone)}), nil
}

// PruneBackups implements the rpc.
func (s *backupService) PruneBackups(ctx context.Context, req *connect.Request[apiv1.PruneBackupsRequest]) (*connect.Response[apiv1.PruneBackupsResponse], error) {
	p, err := s.Backups.Prune(ctx, backup.PruneRequest{
		Plugin: req.Msg.GetPlugin(), DryRun: req.Msg.GetValidateOnly(), By: by(ctx), Key: watchKey(ctx, req.Msg.GetIdempotencyKey()),
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apiv1.PruneBackupsResponse{
		Plugin: p.Plugin, Backups: backupRecords(p.Deleted), Unknown: p.Unknown, FreedBytes: p.Freed, Note: p.Note,
	}), nil
}
