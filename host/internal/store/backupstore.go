package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sop-host/sop/host/internal/backup"
)

// Backups is the [backup.Store] in a database.
type Backups struct{ db *DB }

var (
	_ backup.Store = (*Backups)(nil)
	_ backup.Tx    = (*backupTx)(nil)
)

// Backups returns the store of what is known of snapshots.
func (db *DB) Backups() *Backups { return &Backups{db} }

// Update implements [backup.Store].
func (s *Backups) Update(ctx context.Context, fn func(tx backup.Tx) error) error {
	return s.db.update(ctx, func(tx *sql.Tx) error { return fn(&backupTx{backupReader{tx}, s.db, tx}) })
}

// Get implements [backup.Store].
func (s *Backups) Get(ctx context.Context, ref string) (*backup.Snapshot, error) {
	found, err := backupReader{s.db.read}.Get(ctx, ref)
	return found, s.db.translate(err)
}

// LastRuns implements [backup.Store].
func (s *Backups) LastRuns(ctx context.Context) ([]*backup.Run, error) {
	runs, err := collect(ctx, s.db.read, scanRun, `SELECT `+runColumns+` FROM backup_runs AS r
		WHERE NOT EXISTS (SELECT 1 FROM backup_runs AS later WHERE later.schedule = r.schedule AND later.work = r.work AND later.started_at > r.started_at)
		OR (ended_at IS NOT NULL AND reason = '' AND NOT EXISTS (SELECT 1 FROM backup_runs AS later WHERE later.schedule = r.schedule AND later.work = r.work
			AND later.ended_at IS NOT NULL AND later.reason = '' AND later.started_at > r.started_at))`)
	return runs, s.db.translate(err)
}

var backupOrder = mustOrder("created_at desc, id desc", backup.ListFields)

// backupFields are the fields of a list in SQL.
func backupFields() columns {
	return plainColumns(backup.ListFields, columns{"verified_at": {text: "structure_at"}, "data_verified_at": {text: "data_at"}})
}

// List implements [backup.Store].
func (s *Backups) List(ctx context.Context, f backup.Filter) (backup.Page, error) {
	if f.Limit <= 0 || f.Limit > backup.MaxPage {
		f.Limit = backup.MaxPage
	}
	fields, keys := backupFields(), total(f.Order, backupOrder)
	q := s.selection(&f, fields)
	if f.Token != "" {
		values, err := readPage(f.Token, keys)
		if err != nil {
			return backup.Page{}, err
		}
		q.add(" AND ")
		q.after(keys, fields, values)
	}
	q.order(keys, fields)
	q.add(" LIMIT ?", int64(f.Limit)+1)
	found, err := backupReader{s.db.read}.backups(ctx, q.text.String(), q.args...)
	if err != nil || len(found) <= f.Limit {
		return backup.Page{Snapshots: found}, s.db.translate(err)
	}
	found = found[:f.Limit]
	next, err := nextPage(keys, found[f.Limit-1].Field)
	return backup.Page{Snapshots: found, Next: next}, err
}

// selection is the condition of what passes the filter.
func (s *Backups) selection(f *backup.Filter, fields columns) *query {
	q := &query{dialect: s.db.dialect}
	q.where(f.Where, fields)
	for _, c := range []struct{ column, value string }{
		{"plugin", f.Plugin}, {"workspace", f.Workspace}, {"task", f.Task}, {"schedule", f.Schedule},
	} {
		if c.value != "" {
			q.add(" AND "+c.column+" = ?", c.value)
		}
	}
	if f.Patch != "" {
		q.add(" AND patch = ? AND patch <> ''", f.Patch)
	}
	if len(f.States) > 0 {
		q.add(" AND ")
		in(q, "state", f.States)
	}
	return q
}

// backupReader reads, inside of a transaction or not.
type backupReader struct{ q querier }

func (r backupReader) backups(ctx context.Context, where string, args ...any) ([]*backup.Snapshot, error) {
	return collect(ctx, r.q, scanBackup, "SELECT "+backupColumns+" FROM backups WHERE "+where, args...)
}

// Get implements [backup.Tx].
func (r backupReader) Get(ctx context.Context, ref string) (*backup.Snapshot, error) {
	if ref == "" {
		return nil, backup.NotFound(ref)
	}
	found, err := r.backups(ctx, "id >= $1 AND id < $2 ORDER BY id LIMIT 2", ref, ref+"\U0010ffff")
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, backup.NotFound(ref)
	case len(found) > 1:
		return nil, backup.Ambiguous(ref)
	}
	return found[0], nil
}

// Of implements [backup.Tx].
func (r backupReader) Of(ctx context.Context, plugin string) ([]*backup.Snapshot, error) {
	return r.backups(ctx, "plugin = $1 AND state <> 'deleted'", plugin)
}

// backupTx implements [backup.Tx].
type backupTx struct {
	backupReader
	db *DB
	tx *sql.Tx
}

// Put implements [backup.Tx].
func (t *backupTx) Put(ctx context.Context, s *backup.Snapshot) error {
	if err := insert(ctx, t.db, t.tx, putBackup, []*backup.Snapshot{s}, backupValues); err != nil {
		return fmt.Errorf("store snapshot: %w", err)
	}
	return nil
}

// Seen implements [backup.Tx].
func (t *backupTx) Seen(ctx context.Context, ids []string, data bool, at time.Time) error {
	set := "structure_at = $1"
	if data {
		set += ", data_at = $1"
	}
	for _, id := range ids {
		if _, err := t.tx.ExecContext(ctx, "UPDATE backups SET "+set+" WHERE id = $2", at.UnixNano(), id); err != nil {
			return fmt.Errorf("store verification: %w", err)
		}
	}
	return nil
}

// keptRuns is how many runs of each schedule and work are kept.
const keptRuns = 100

// PutRun implements [backup.Tx].
func (t *backupTx) PutRun(ctx context.Context, r *backup.Run) error {
	if err := insert(ctx, t.db, t.tx, putRun, []*backup.Run{r}, runValues); err != nil {
		return fmt.Errorf("store run: %w", err)
	}
	// The latest that succeeded stays, however many have failed since.
	_, err := t.tx.ExecContext(ctx, `DELETE FROM backup_runs WHERE schedule = $1 AND work = $2
		AND id NOT IN (SELECT id FROM backup_runs WHERE schedule = $1 AND work = $2 ORDER BY started_at DESC LIMIT $3)
		AND id NOT IN (SELECT id FROM backup_runs WHERE schedule = $1 AND work = $2 AND ended_at IS NOT NULL AND reason = '' ORDER BY started_at DESC LIMIT 1)`,
		r.Schedule, string(r.Work), keptRuns)
	if err != nil {
		return fmt.Errorf("forget runs: %w", err)
	}
	return nil
}

// Record implements [backup.Tx].
func (t *backupTx) Record(ctx context.Context, d backup.Deed) error {
	return t.db.appendAudit(ctx, t.tx, backupRecord(d))
}
