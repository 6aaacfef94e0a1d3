package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/backup"
)

// backupColumns are the columns of backups in the order of backupValues and
// scanBackup; runColumns likewise of their runs.
const (
	backupColumns = `id, plugin, ref, workspace, root, paths, excluded, reason, task, patch, schedule, created_by, created_at,
	files, bytes, stored, failures, failed, manifest, pinned, state, why, changed_at, structure_at, data_at`
	runColumns = `id, schedule, work, plugin, snapshot, started_at, ended_at, reason, message`
)

var (
	putBackup = bulk{
		"backups (" + backupColumns + ")", strings.Count(backupColumns, ",") + 1,
		" ON CONFLICT (id) DO UPDATE SET " + excluded(backupColumns),
	}
	putRun = bulk{
		"backup_runs (" + runColumns + ")", strings.Count(runColumns, ",") + 1,
		" ON CONFLICT (id) DO UPDATE SET " + excluded(runColumns),
	}
)

// storedFailure is a [backup.PathFailure] in the database.
type storedFailure struct {
	Path    []byte `json:"path"`
	Message string `json:"message"`
}

// pathsText stores paths, which are bytes.
func pathsText(paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	raw := make([][]byte, len(paths))
	for i, p := range paths {
		raw[i] = []byte(p)
	}
	text, err := json.Marshal(raw)
	if err != nil {
		panic(err) // bytes always have a form
	}
	return string(text)
}

func readPaths(text string) (paths []string, err error) {
	if text == "" {
		return nil, nil
	}
	var raw [][]byte
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return nil, fmt.Errorf("paths in the database: %w", err)
	}
	for _, p := range raw {
		paths = append(paths, string(p))
	}
	return paths, nil
}

func failuresText(all []backup.PathFailure) string {
	if len(all) == 0 {
		return ""
	}
	stored := make([]storedFailure, len(all))
	for i, f := range all {
		stored[i] = storedFailure{[]byte(f.Path), f.Message}
	}
	text, err := json.Marshal(stored)
	if err != nil {
		panic(err) // bytes and text always have a form
	}
	return string(text)
}

func readFailures(text string) (all []backup.PathFailure, err error) {
	if text == "" {
		return nil, nil
	}
	var stored []storedFailure
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return nil, fmt.Errorf("failures in the database: %w", err)
	}
	for _, f := range stored {
		all = append(all, backup.PathFailure{Path: string(f.Path), Message: f.Message})
	}
	return all, nil
}

func backupValues(args []any, s *backup.Snapshot) []any {
	manifest := s.Manifest
	if manifest == nil {
		manifest = []byte{}
	}
	return append(args, s.ID, s.Plugin, s.Ref, s.Workspace, []byte(s.Root), pathsText(s.Paths), pathsText(s.Excluded), string(s.Reason),
		s.Task, s.Patch, s.Schedule, s.By, s.CreatedAt.UnixNano(), s.Files, s.Bytes, s.Stored, failuresText(s.Failures), s.Failed,
		manifest, s.Pinned, string(s.State), s.Why, s.ChangedAt.UnixNano(), nanoOrNull(s.StructureAt), nanoOrNull(s.DataAt))
}

func scanBackup(scan func(...any) error) (*backup.Snapshot, error) {
	s := new(backup.Snapshot)
	var root, manifest []byte
	var paths, left, failures string
	var created, changed int64
	var structure, data sql.NullInt64
	err := scan(&s.ID, &s.Plugin, &s.Ref, &s.Workspace, &root, &paths, &left, &s.Reason, &s.Task, &s.Patch, &s.Schedule, &s.By, &created,
		&s.Files, &s.Bytes, &s.Stored, &failures, &s.Failed, &manifest, &s.Pinned, &s.State, &s.Why, &changed, &structure, &data)
	if err != nil {
		return nil, err
	}
	s.Root, s.CreatedAt, s.ChangedAt = string(root), fromNano(created), fromNano(changed)
	s.StructureAt, s.DataAt = zeroOrNano(structure), zeroOrNano(data)
	if len(manifest) > 0 {
		s.Manifest = manifest
	}
	if s.Paths, err = readPaths(paths); err != nil {
		return nil, err
	}
	if s.Excluded, err = readPaths(left); err != nil {
		return nil, err
	}
	s.Failures, err = readFailures(failures)
	return s, err
}

func runValues(args []any, r *backup.Run) []any {
	return append(args, r.ID, r.Schedule, string(r.Work), r.Plugin, r.Snapshot, r.StartedAt.UnixNano(), nanoOrNull(r.EndedAt), r.Reason, r.Message)
}

func scanRun(scan func(...any) error) (*backup.Run, error) {
	r := new(backup.Run)
	var started int64
	var ended sql.NullInt64
	if err := scan(&r.ID, &r.Schedule, &r.Work, &r.Plugin, &r.Snapshot, &started, &ended, &r.Reason, &r.Message); err != nil {
		return nil, err
	}
	r.StartedAt, r.EndedAt = fromNano(started), zeroOrNano(ended)
	return r, nil
}

// backupRecord is a deed as the audit log has it.
func backupRecord(d backup.Deed) audit.Record {
	r := audit.Record{
		Time: d.At, Actor: d.By, Action: "backup." + d.Action, Resource: "backup/" + d.Snapshot, Outcome: audit.Success, Reason: d.Why,
		Attributes: make(map[string]string),
	}
	if d.Snapshot == "" {
		r.Resource = "plugin/backup." + d.Plugin
	}
	if d.Failed {
		r.Outcome = audit.Failure
	}
	maps.Copy(r.Attributes, d.Attributes)
	if d.Workspace != "" {
		r.Attributes["workspace"] = d.Workspace
	}
	return r
}
