package api

import (
	"encoding/hex"

	"github.com/sop-host/sop/host/internal/backup"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// maxBackupPaths bounds the paths that a record lists.
const maxBackupPaths = 1000

// BackupRecord converts a snapshot.
func BackupRecord(s *backup.Snapshot) *apiv1.BackupRecord {
	return &apiv1.BackupRecord{
		Id: s.ID, Plugin: s.Plugin, Ref: s.Ref, Workspace: s.Workspace, Root: backup.Printable(s.Root),
		Paths: bytePaths(s.Paths[:min(len(s.Paths), maxBackupPaths)]), PathsTotal: int64(len(s.Paths)),
		Reason: string(s.Reason), Task: s.Task, Patch: s.Patch, Schedule: s.Schedule, CreatedBy: s.By, CreatedAt: stamp(s.CreatedAt),
		Files: s.Files, Bytes: s.Bytes, Stored: s.Stored, Failures: pathFailures(s.Failures), Failed: int64(s.Failed),
		ManifestSha256: hex.EncodeToString(s.Manifest), Pinned: s.Pinned, State: string(s.State), StateReason: s.Why,
		VerifiedAt: stamp(s.StructureAt), DataVerifiedAt: stamp(s.DataAt),
	}
}

func backupRecords(all []*backup.Snapshot) []*apiv1.BackupRecord {
	out := make([]*apiv1.BackupRecord, len(all))
	for i, s := range all {
		out[i] = BackupRecord(s)
	}
	return out
}

// textPaths converts paths, which are bytes on both sides.
func textPaths(raw [][]byte) []string {
	var out []string
	for _, p := range raw {
		out = append(out, string(p))
	}
	return out
}

func bytePaths(paths []string) [][]byte {
	var out [][]byte
	for _, p := range paths {
		out = append(out, []byte(p))
	}
	return out
}

func pathFailures(all []backup.PathFailure) []*apiv1.BackupPathFailure {
	out := make([]*apiv1.BackupPathFailure, len(all))
	for i, f := range all {
		out[i] = &apiv1.BackupPathFailure{Path: []byte(f.Path), Message: f.Message}
	}
	return out
}

func backupEntries(all []*pluginv1.SnapshotEntry) []*apiv1.BackupEntry {
	out := make([]*apiv1.BackupEntry, len(all))
	for i, e := range all {
		out[i] = &apiv1.BackupEntry{
			Path: e.GetPath(), Type: e.GetType(), Mode: e.GetMode(), Size: e.GetSize(), Modified: e.GetModified(),
			Sha256: hex.EncodeToString(e.GetSha256()), Target: e.GetTarget(),
		}
	}
	return out
}

func backupComparison(c *backup.Comparison) *apiv1.BackupComparison {
	out := &apiv1.BackupComparison{Id: c.Snapshot.ID, Target: backup.Printable(c.Target), Compared: c.Compared, Differing: c.Differing}
	if c.Against != nil {
		out.Against = c.Against.ID
	}
	for _, d := range c.Differences {
		out.Differences = append(out.Differences, &apiv1.BackupDifference{Path: []byte(d.Path), Kind: string(d.Kind), Detail: d.Detail})
	}
	return out
}

func backupWork(a backup.Activity) *apiv1.BackupWork {
	return &apiv1.BackupWork{Files: a.Files, Bytes: a.Bytes, ExpectedFiles: a.Expected.Files, ExpectedBytes: a.Expected.Bytes}
}

func backupVerification(v *backup.Verification) *apiv1.BackupVerification {
	out := &apiv1.BackupVerification{
		Plugin: v.Plugin, Data: v.Data, Intact: v.Intact, Snapshots: v.Snapshots, Objects: v.Objects, Bytes: v.Bytes,
		DamagedTotal: int64(v.DamagedTotal), Failures: pathFailures(v.Failures), Failed: int64(v.Failed),
	}
	for _, l := range v.Lost {
		out.Lost = append(out.Lost, &apiv1.BackupLoss{Id: l.Snapshot, Message: l.Why})
	}
	for _, d := range v.Damaged {
		out.Damaged = append(out.Damaged, &apiv1.BackupDamage{Name: d.Name, Message: d.Message, Refs: d.Snapshots})
	}
	return out
}
