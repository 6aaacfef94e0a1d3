package backup

import (
	"bytes"
	"context"
	"path/filepath"
	"strconv"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// RestoreRequest says what is to be restored.
type RestoreRequest struct {
	Snapshot string // id, or an unambiguous beginning of it
	// Target is an absolute directory beneath which is written, and nowhere else;
	// it is made if only it is missing. Empty: where the snapshot was made.
	Target string
	Paths  []string // empty: everything
	// Overwrite replaces what is in the way, whatever its type.
	Overwrite bool
	// DryRun changes nothing, and says what would be.
	DryRun      bool
	By          string
	Task, Patch string
	// InPlace allows a target that lies in a governed workspace.
	InPlace  bool
	Progress func(Progress) // nil is fine
	Key      string         // by which [Service.Watch] finds it; empty: not at all
}

// Restored says what came of a restore.
type Restored struct {
	Snapshot *Snapshot
	Target   string
	Files    int64
	Bytes    int64
	// Failures are the first of Failed paths that were not restored: what was
	// there still is.
	Failures []PathFailure
	Failed   int
	// Warnings are the first of Warned paths that were restored with less than
	// their metadata.
	Warnings []PathFailure
	Warned   int
	// Changes is what a dry run found: what would be changed, and why.
	Changes *Comparison
}

// Restore writes a snapshot beneath the target. Before that the plugin must
// show that it has the snapshot that was saved. A path that could not be
// restored stands in the result, and is no error.
func (s *Service) Restore(ctx context.Context, r RestoreRequest) (*Restored, error) {
	if err := checkPaths(r.Paths); err != nil {
		return nil, err
	}
	snap, err := s.Store.Get(ctx, r.Snapshot)
	if err != nil {
		return nil, err
	}
	target, err := s.target(snap, r.Target)
	if err != nil {
		return nil, err
	}
	if err := s.checkPlace(target, r.InPlace || r.Target == ""); err != nil {
		return nil, err
	}
	if r.DryRun {
		out := &Restored{Snapshot: snap, Target: target}
		out.Changes, err = s.Compare(ctx, CompareRequest{Snapshot: snap.ID, Target: target, Paths: r.Paths, By: r.By})
		return out, err
	}
	return s.restore(ctx, r, snap, target)
}

// restore writes a snapshot beneath a target that was checked.
func (s *Service) restore(ctx context.Context, r RestoreRequest, snap *Snapshot, target string) (*Restored, error) {
	out := &Restored{Snapshot: snap, Target: target}
	_, client, err := s.plugin(snap.Plugin)
	if err != nil {
		return nil, err
	}
	expected := Progress{}
	if len(r.Paths) == 0 {
		expected = Progress{Files: snap.Files, Bytes: snap.Bytes}
	}
	tell, end := s.under.begin(r.Key, expected, r.Progress)
	defer end()
	var result *pluginv1.RestoreResult
	err = s.granted(ctx, snap.Plugin, snap.Workspace, "restore "+snap.ID, func(secret string) error {
		if err := s.genuine(ctx, client, secret, snap); err != nil {
			return err
		}
		stream, err := client.Restore(ctx, &pluginv1.RestoreRequest{
			Token: secret, SnapshotId: snap.Ref, Target: target, RawPaths: rawPaths(r.Paths), Overwrite: r.Overwrite,
		})
		result, err = follow(stream, err, (*pluginv1.RestoreResponse).GetResult, tell)
		return err
	})
	if recordErr := s.recordRestore(ctx, r, out, result, err); err == nil {
		err = recordErr
	}
	if err != nil {
		return nil, err
	}
	out.take(result)
	return out, nil
}

func (r *Restored) take(p *pluginv1.RestoreResult) {
	r.Files, r.Bytes = p.GetFiles(), p.GetBytes()
	r.Failures, r.Failed = failuresOf(p.GetFailures()), len(p.GetFailures())
	r.Warnings, r.Warned = failuresOf(p.GetWarnings()), len(p.GetWarnings())
}

// target is where a restore writes.
func (s *Service) target(snap *Snapshot, named string) (string, error) {
	switch {
	case named != "" && !filepath.IsAbs(named):
		return "", sdk.Errorf(codes.InvalidArgument, "BACKUP_TARGET", "%q is no absolute path", clip(named)).WithField("target", "")
	case named != "":
		return filepath.Clean(named), nil
	case snap.Workspace == "":
		return "", sdk.Errorf(codes.InvalidArgument, "BACKUP_TARGET", "snapshot %s is of SOP's own state, which is not restored while the host runs", snap.ID).
			WithRemedy("restore it to an empty directory with --to, stop the host, and put the files in place; docs/backup.md says how").WithField("target", "")
	}
	return s.Root(snap.Workspace) // which may have moved since
}

// genuine returns an error unless the plugin has the snapshot that was saved.
// One that is gone or changed is recorded as lost.
func (s *Service) genuine(ctx context.Context, client pluginv1.BackupClient, secret string, snap *Snapshot) error {
	if snap.State == Deleted {
		return sdk.Errorf(codes.FailedPrecondition, "BACKUP_DELETED", "snapshot %s was deleted: %s", snap.ID, snap.Why).
			WithRemedy("choose another with: sop backup list")
	}
	found, err := s.described(ctx, client, secret, snap)
	if err != nil {
		return err
	}
	if why := differs(snap, found); why != "" {
		if err := s.lose(ctx, snap, why); err != nil {
			s.Logger.Error("the loss of a snapshot could not be recorded", "snapshot", snap.ID, "error", err)
		}
		return lost(snap, found == nil || unreadable(snap, found), why)
	}
	return nil
}

// differs says in which way what the plugin has is not what was saved; empty: in
// none.
func differs(snap *Snapshot, found *pluginv1.Snapshot) string {
	switch {
	case found == nil:
		return "the repository has no such snapshot"
	case unreadable(snap, found):
		return "the repository cannot read it: " + clip(found.GetFailures()[0].GetMessage())
	case !bytes.Equal(found.GetManifestSha256(), snap.Manifest):
		return "the repository has another snapshot under its id than was saved"
	}
	return ""
}

// unreadable says that the plugin only knows that there was a snapshot.
func unreadable(snap *Snapshot, found *pluginv1.Snapshot) bool {
	return len(snap.Manifest) > 0 && len(found.GetManifestSha256()) == 0 && len(found.GetFailures()) > 0
}

// lost is the error for a snapshot that cannot be relied on.
func lost(snap *Snapshot, missing bool, why string) error {
	reason := "BACKUP_TAMPERED"
	if missing {
		reason = "BACKUP_LOST"
	}
	return sdk.Errorf(codes.DataLoss, reason, "snapshot %s in plugin %s: %s", snap.ID, snap.Plugin, why).
		WithRemedy("run `sop backup verify --plugin %s`, find out who writes to the repository, and choose another snapshot", snap.Plugin)
}

// lose records that a snapshot is not there any more.
func (s *Service) lose(ctx context.Context, snap *Snapshot, why string) error {
	return s.record(ctx, func(ctx context.Context, tx Tx) error { return s.moved(ctx, tx, snap.ID, Lost, "lost", actor, why) })
}

// actor is who the host itself is in the audit log.
const actor = "host"

// moved gives a snapshot that is kept another state, with its record.
func (s *Service) moved(ctx context.Context, tx Tx, id string, to State, action, by, why string) error {
	snap, err := tx.Get(ctx, id)
	if err != nil || snap.State == to || snap.State == Deleted {
		return err
	}
	snap.State, snap.Why, snap.ChangedAt = to, why, s.Now().UTC()
	if err := tx.Put(ctx, snap); err != nil {
		return err
	}
	return tx.Record(ctx, Deed{
		At: snap.ChangedAt, Action: action, By: by, Snapshot: snap.ID, Workspace: snap.Workspace, Why: why, Failed: to == Lost,
		Attributes: map[string]string{"plugin": snap.Plugin, "ref": snap.Ref},
	})
}

// recordRestore tells the audit log what was restored where, or that it failed.
func (s *Service) recordRestore(ctx context.Context, r RestoreRequest, out *Restored, result *pluginv1.RestoreResult, failed error) error {
	d := Deed{
		At: s.Now().UTC(), Action: "restore", By: r.By, Snapshot: out.Snapshot.ID, Workspace: out.Snapshot.Workspace,
		Attributes: map[string]string{
			"plugin": out.Snapshot.Plugin, "target": Printable(out.Target), "files": strconv.FormatInt(result.GetFiles(), 10),
			"overwrite": strconv.FormatBool(r.Overwrite), "paths": strconv.Itoa(len(r.Paths)),
		},
	}
	for name, value := range map[string]string{"task": r.Task, "patch": r.Patch} {
		if value != "" {
			d.Attributes[name] = value
		}
	}
	if n := len(result.GetFailures()); n > 0 {
		d.Attributes["failed"] = strconv.Itoa(n)
	}
	if failed != nil {
		e := sdk.FromError(failed)
		d.Failed, d.Why = true, firstOf(e.Reason, e.Code.String())
	}
	return s.record(ctx, func(ctx context.Context, tx Tx) error { return tx.Record(ctx, d) })
}
