package cli

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// fakeBackup answers as in a scenario.
type fakeBackup struct{ fakeHost }

const testBackupID = "019cb000-0000-7000-8000-000000000001"

func testBackup() *apiv1.BackupRecord {
	return &apiv1.BackupRecord{
		Id: testBackupID, Plugin: "files", Ref: "000000000007-1f0c9a3e", Workspace: "main", Root: "/srv/main", Reason: "integration", Patch: "p1",
		CreatedBy: "host", CreatedAt: before(time.Minute), Files: 3, Bytes: 5_600_000, Stored: 1200, ManifestSha256: "ab01", State: "kept", VerifiedAt: before(time.Hour),
	}
}

func (h fakeBackup) ListBackups(context.Context, *connect.Request[apiv1.ListBackupsRequest]) (*connect.Response[apiv1.ListBackupsResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.ListBackupsResponse{})
	}
	state := &apiv1.BackupRecord{Id: "019cb000-0000-7000-8000-000000000002", Plugin: "kopia", Reason: "schedule", Schedule: "state", State: "lost", CreatedAt: before(2 * time.Hour), Files: 9, Bytes: 12}
	return answer(h.fakeHost, &apiv1.ListBackupsResponse{Backups: []*apiv1.BackupRecord{testBackup(), state}})
}

func (h fakeBackup) GetBackup(_ context.Context, r *connect.Request[apiv1.GetBackupRequest]) (*connect.Response[apiv1.GetBackupResponse], error) {
	if r.Msg.GetId() != "019cb000" {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no such backup"))
	}
	return answer(h.fakeHost, &apiv1.GetBackupResponse{Backup: testBackup()})
}

func (h fakeBackup) ReadBackupContents(_ context.Context, _ *connect.Request[apiv1.ReadBackupContentsRequest], stream *connect.ServerStream[apiv1.ReadBackupContentsResponse]) error {
	return stream.Send(&apiv1.ReadBackupContentsResponse{Entries: []*apiv1.BackupEntry{
		{Path: []byte("dir"), Type: "dir", Mode: 0o750, Modified: before(time.Hour)},
		{Path: []byte("dir/\x1b[31m"), Type: "file", Mode: 0o644, Size: 1234, Modified: before(time.Hour), Sha256: "ab"},
		{Path: []byte("link"), Type: "symlink", Target: []byte("dir"), Modified: before(time.Hour)},
		{Path: []byte("not \xff utf-8"), Type: "file", Modified: before(time.Hour)},
	}})
}

func testComparison() *apiv1.BackupComparison {
	return &apiv1.BackupComparison{Id: testBackupID, Target: "/srv/main", Compared: 9, Differing: 3, Differences: []*apiv1.BackupDifference{
		{Path: []byte("a"), Kind: "content", Detail: "it had 3 bytes and has 4"}, {Path: []byte("b"), Kind: "missing"}, {Path: []byte("c"), Kind: "added"},
	}}
}

func (h fakeBackup) DiffBackup(context.Context, *connect.Request[apiv1.DiffBackupRequest]) (*connect.Response[apiv1.DiffBackupResponse], error) {
	c := testComparison()
	if h.scenario == "quiet" {
		c.Differences, c.Differing = nil, 0
	}
	return answer(h.fakeHost, &apiv1.DiffBackupResponse{Comparison: c})
}

func (h fakeBackup) WatchBackupProgress(ctx context.Context, _ *connect.Request[apiv1.WatchBackupProgressRequest], stream *connect.ServerStream[apiv1.WatchBackupProgressResponse]) error {
	if err := stream.Send(&apiv1.WatchBackupProgressResponse{Work: &apiv1.BackupWork{Files: 1, Bytes: 2}}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h fakeBackup) CreateBackup(_ context.Context, r *connect.Request[apiv1.CreateBackupRequest]) (*connect.Response[apiv1.CreateBackupResponse], error) {
	if r.Msg.GetValidateOnly() {
		return answer(h.fakeHost, &apiv1.CreateBackupResponse{})
	}
	b := testBackup()
	if h.scenario == "degraded" {
		b.Failed, b.Failures = 2, []*apiv1.BackupPathFailure{{Path: []byte("secret"), Message: "open: permission denied"}}
	}
	return answer(h.fakeHost, &apiv1.CreateBackupResponse{Backup: b})
}

func (h fakeBackup) VerifyBackups(_ context.Context, r *connect.Request[apiv1.VerifyBackupsRequest], stream *connect.ServerStream[apiv1.VerifyBackupsResponse]) error {
	v := &apiv1.BackupVerification{Plugin: "files", Data: r.Msg.GetData(), Intact: true, Snapshots: 7, Objects: 40}
	if h.scenario == "degraded" {
		v.Intact, v.Lost = false, []*apiv1.BackupLoss{{Id: testBackupID, Message: "the repository has no such snapshot"}}
		v.Damaged, v.DamagedTotal = []*apiv1.BackupDamage{{Name: "objects/ab", Message: "it is missing"}}, 2
	}
	return stream.Send(&apiv1.VerifyBackupsResponse{Event: &apiv1.VerifyBackupsResponse_Result{Result: v}})
}

func (h fakeBackup) RestoreBackup(_ context.Context, r *connect.Request[apiv1.RestoreBackupRequest]) (*connect.Response[apiv1.RestoreBackupResponse], error) {
	resp := &apiv1.RestoreBackupResponse{Id: testBackupID, Target: r.Msg.GetTarget()}
	if r.Msg.GetInPlace() && r.Msg.GetTarget() == "" {
		resp.Target = "/srv/main"
	}
	if r.Msg.GetValidateOnly() {
		resp.Changes = testComparison()
		return answer(h.fakeHost, resp)
	}
	resp.Files, resp.Bytes = 3, 5000
	if h.scenario == "degraded" {
		resp.Failed, resp.Failures = 1, []*apiv1.BackupPathFailure{{Path: []byte("a"), Message: "it exists"}}
	}
	return answer(h.fakeHost, resp)
}

func (h fakeBackup) PinBackup(_ context.Context, r *connect.Request[apiv1.PinBackupRequest]) (*connect.Response[apiv1.PinBackupResponse], error) {
	b := testBackup()
	b.Pinned = !r.Msg.GetOff()
	return answer(h.fakeHost, &apiv1.PinBackupResponse{Backup: b})
}

func (h fakeBackup) DeleteBackups(context.Context, *connect.Request[apiv1.DeleteBackupsRequest]) (*connect.Response[apiv1.DeleteBackupsResponse], error) {
	return answer(h.fakeHost, &apiv1.DeleteBackupsResponse{Backups: []*apiv1.BackupRecord{testBackup()}})
}

func (h fakeBackup) PruneBackups(context.Context, *connect.Request[apiv1.PruneBackupsRequest]) (*connect.Response[apiv1.PruneBackupsResponse], error) {
	if h.scenario == "quiet" {
		return answer(h.fakeHost, &apiv1.PruneBackupsResponse{Plugin: "files"})
	}
	return answer(h.fakeHost, &apiv1.PruneBackupsResponse{Plugin: "files", Backups: []*apiv1.BackupRecord{testBackup()}, FreedBytes: 4096, Note: "the rest tomorrow"})
}
