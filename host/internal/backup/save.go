package backup

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// SaveRequest says what is to be saved.
type SaveRequest struct {
	Plugin    string // empty: the usual one, "files", or the only one
	Workspace string
	// Paths are relative to the workspace, without . and .., and bytes: they need
	// not be UTF-8. One that does not exist is a failure of its path. Empty:
	// everything.
	Paths    []string
	Reason   Reason
	Task     string
	Patch    string
	Schedule string
	By       string // for the audit log
	// Whole makes it an error when anything could not be saved.
	Whole    bool
	Progress func(Progress) // nil is fine
	Key      string         // by which [Service.Watch] finds it; empty: not at all
}

// maxPaths bounds the paths of one request.
const maxPaths = 100_000

// Save makes a snapshot of a workspace. When it returns nil the snapshot is
// durable and recorded, and not before. With Whole the error for one that has
// failures is BACKUP_INCOMPLETE; it is kept and recorded all the same.
func (s *Service) Save(ctx context.Context, r SaveRequest) (*Snapshot, error) {
	root, err := s.Root(r.Workspace)
	if err != nil {
		return nil, err
	}
	return s.save(ctx, r, root)
}

// CheckSave says whether Save would ask the plugin.
func (s *Service) CheckSave(r SaveRequest) error {
	_, err := s.Root(r.Workspace)
	if err == nil {
		_, _, err = s.plugin(r.Plugin)
	}
	if err == nil {
		err = checkPaths(r.Paths)
	}
	return err
}

// save makes a snapshot of a directory.
func (s *Service) save(ctx context.Context, r SaveRequest, root string) (*Snapshot, error) {
	if err := checkPaths(r.Paths); err != nil {
		return nil, err
	}
	name, client, err := s.plugin(r.Plugin)
	if err != nil {
		return nil, err
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	snap := &Snapshot{
		ID: id, Plugin: name, Workspace: r.Workspace, Root: root, Paths: r.Paths, Reason: r.Reason, Task: r.Task, Patch: r.Patch,
		Excluded: s.excluded(root), Schedule: r.Schedule, By: r.By, State: Kept,
	}
	tell, end := s.under.begin(r.Key, s.expected(ctx, r), r.Progress)
	defer end()
	files, err := snap.named()
	if err != nil {
		return nil, err
	}
	var saved *pluginv1.Snapshot
	err = s.granted(ctx, name, r.Workspace, "backup "+id, func(secret string) error {
		stream, err := client.Save(ctx, &pluginv1.SaveRequest{
			Token: secret, Root: root, RawPaths: rawPaths(r.Paths), Excluded: rawPaths(snap.Excluded), Labels: snap.labels(),
		})
		if saved, err = follow(stream, err, (*pluginv1.SaveResponse).GetSnapshot, tell); err != nil {
			return err
		}
		snap.take(saved)
		return s.there(ctx, client, secret, snap, files)
	})
	if err != nil {
		s.recordFailure(ctx, snap, err)
		return nil, err
	}
	snap.CreatedAt = s.Now().UTC() // the host's clock orders its own records
	snap.ChangedAt = snap.CreatedAt
	err = s.record(ctx, func(ctx context.Context, tx Tx) error {
		if err := tx.Put(ctx, snap); err != nil {
			return err
		}
		return tx.Record(ctx, snap.saved())
	})
	if err != nil {
		return nil, fmt.Errorf("record snapshot %s of plugin %s: %w", snap.Ref, name, err)
	}
	s.count(name)
	if r.Whole && !snap.Whole() {
		return snap, incomplete(snap)
	}
	return snap, nil
}

// named counts the regular files among the paths that are asked for.
func (s *Snapshot) named() (files int64, err error) {
	if len(s.Paths) == 0 {
		return 0, nil
	}
	root, err := os.OpenRoot(s.Root)
	if err != nil {
		return 0, sdk.Errorf(codes.FailedPrecondition, "BACKUP_ROOT", "open what is to be saved: %w", err)
	}
	defer root.Close() //nolint:errcheck // nothing was written
	for _, p := range slices.Compact(slices.Sorted(slices.Values(s.Paths))) {
		left := slices.ContainsFunc(s.Excluded, func(dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") })
		if info, err := root.Lstat(p); !left && err == nil && info.Mode().IsRegular() {
			files++
		}
	}
	return files, nil
}

// there returns an error unless the plugin shows that it has what it says it has
// saved, with as many files as were named at least.
func (s *Service) there(ctx context.Context, client pluginv1.BackupClient, secret string, snap *Snapshot, files int64) error {
	why := "it names no snapshot"
	if snap.Ref != "" {
		found, err := s.described(ctx, client, secret, snap)
		if err != nil {
			return err
		}
		why = differs(snap, found)
	}
	if why == "" && snap.Files+int64(snap.Failed) < files {
		why = fmt.Sprintf("it holds %d of %d files", snap.Files, files)
	}
	if why == "" {
		return nil
	}
	return sdk.Errorf(codes.DataLoss, "BACKUP_NOT_THERE", "plugin %s says that it has saved, but %s", snap.Plugin, why).
		WithRemedy("save with another plugin; report this to the author of the plugin")
}

// excluded is where beneath a directory the host keeps its own state: a copy of
// the files of a database in use is worth nothing.
func (s *Service) excluded(root string) []string {
	rel, err := filepath.Rel(root, s.DataDir)
	if s.DataDir == "" || err != nil || rel == "." || !filepath.IsLocal(rel) {
		return nil
	}
	return []string{rel}
}

// recordFailure tells the audit log that nothing was saved. What is told to the
// caller is why; that it could not be recorded is for the log of the host.
func (s *Service) recordFailure(ctx context.Context, snap *Snapshot, why error) {
	e := sdk.FromError(why)
	d := snap.saved()
	d.Snapshot, d.Failed, d.Why = "", true, firstOf(e.Reason, e.Code.String())
	if err := s.record(ctx, func(ctx context.Context, tx Tx) error { return tx.Record(ctx, d) }); err != nil {
		s.Logger.Error("a backup that failed could not be recorded", "plugin", snap.Plugin, "workspace", snap.Workspace, "error", err)
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// labelSnapshot carries the host's id of a snapshot in the repository.
const labelSnapshot = "snapshot"

// labels are what the repository keeps with the snapshot.
func (s *Snapshot) labels() map[string]string {
	labels := map[string]string{labelSnapshot: s.ID}
	for name, value := range map[string]string{
		"workspace": s.Workspace, "reason": string(s.Reason), "task": s.Task, "patch": s.Patch, "schedule": s.Schedule,
	} {
		if value != "" {
			labels[name] = value
		}
	}
	return labels
}

// take takes over what the plugin says of the snapshot.
func (s *Snapshot) take(p *pluginv1.Snapshot) {
	s.Ref, s.Files, s.Bytes, s.Stored = p.GetId(), p.GetFiles(), p.GetBytes(), p.GetStoredBytes()
	s.Failures, s.Failed, s.Manifest = failuresOf(p.GetFailures()), len(p.GetFailures()), p.GetManifestSha256()
}

// saved is the snapshot as the audit log has it.
func (s *Snapshot) saved() Deed {
	d := Deed{
		At: s.CreatedAt, Action: "save", By: s.By, Snapshot: s.ID, Plugin: s.Plugin, Workspace: s.Workspace,
		Attributes: map[string]string{
			"plugin": s.Plugin, "reason": string(s.Reason), "files": strconv.FormatInt(s.Files, 10), "bytes": strconv.FormatInt(s.Bytes, 10),
		},
	}
	for name, value := range map[string]string{
		"ref": s.Ref, "manifest_sha256": hex.EncodeToString(s.Manifest), "task": s.Task, "patch": s.Patch, "schedule": s.Schedule,
	} {
		if value != "" {
			d.Attributes[name] = value
		}
	}
	if s.Failed > 0 {
		d.Attributes["failed"] = strconv.Itoa(s.Failed)
	}
	return d
}

// incomplete says what could not be saved.
func incomplete(s *Snapshot) error {
	f := s.Failures[0]
	return sdk.Errorf(codes.FailedPrecondition, "BACKUP_INCOMPLETE", "%d paths could not be saved, among them %q: %s", s.Failed, clip(f.Path), f.Message).
		WithRemedy("make them readable, or leave them out; snapshot %s holds the rest", s.ID)
}

// checkPaths refuses what is no plain path beneath a directory.
func checkPaths(paths []string) error {
	if len(paths) > maxPaths {
		return sdk.Errorf(codes.InvalidArgument, "BACKUP_PATHS", "%d paths are too many", len(paths)).
			WithRemedy("name directories that hold them, at most %d paths", maxPaths).WithField("paths", "")
	}
	for _, p := range paths {
		if !local(p) {
			return sdk.Errorf(codes.InvalidArgument, "BACKUP_PATHS", "%q is no plain path beneath the workspace", clip(p)).
				WithRemedy("write it relative to the workspace, without . and ..").WithField("paths", "")
		}
	}
	return nil
}

// local says whether p is a plain path beneath a directory: no step of it is
// empty, "." or "..".
func local(p string) bool {
	return p != "" && p != "." && p[0] != '/' && path.Clean(p) == p && p != ".." && !strings.HasPrefix(p, "../") && !strings.ContainsRune(p, 0)
}
