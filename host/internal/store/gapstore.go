package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/gap"
)

// Gaps is the [gap.Store] in a database.
type Gaps struct{ db *DB }

var (
	_ gap.Store = (*Gaps)(nil)
	_ gap.Tx    = (*gapTx)(nil)
)

// Gaps returns the gap store.
func (db *DB) Gaps() *Gaps { return &Gaps{db} }

// keptScans is how many scans of a workspace are remembered.
const keptScans = 100

// Update implements [gap.Store].
func (s *Gaps) Update(ctx context.Context, fn func(tx gap.Tx) error) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		t := &gapTx{gapReader: gapReader{s.db, tx}, tx: tx}
		if err := fn(t); err != nil {
			return err
		}
		return s.db.appendAudit(ctx, tx, t.tally.records()...)
	})
}

// Get implements [gap.Store].
func (s *Gaps) Get(ctx context.Context, ref string) (*gap.Gap, error) {
	r := gapReader{s.db, s.db.read}
	g, err := r.Get(ctx, ref)
	if err != nil {
		return nil, s.db.translate(err)
	}
	g.History, err = r.history(ctx, g.ID)
	return g, s.db.translate(err)
}

// List implements [gap.Store].
func (s *Gaps) List(ctx context.Context, filter gap.Filter) (gap.Page, error) {
	page, err := gapReader{s.db, s.db.read}.list(ctx, filter)
	return page, s.db.translate(err)
}

// Counts implements [gap.Store].
func (s *Gaps) Counts(ctx context.Context, workspace string) ([]gap.Count, error) {
	counts, err := gapReader{s.db, s.db.read}.Counts(ctx, workspace)
	return counts, s.db.translate(err)
}

// Scans implements [gap.Store].
func (s *Gaps) Scans(ctx context.Context, workspace string, limit int) ([]*gap.ScanResult, error) {
	scans, err := collect(ctx, s.db.read, func(scan func(...any) error) (*gap.ScanResult, error) {
		var text string
		if err := scan(&text); err != nil {
			return nil, err
		}
		result := new(gap.ScanResult)
		return result, json.Unmarshal([]byte(text), result)
	}, "SELECT result FROM scans WHERE workspace = $1 ORDER BY started_at DESC, id DESC LIMIT $2", workspace, limit)
	return scans, s.db.translate(err)
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect reads all rows.
func collect[T any](ctx context.Context, q querier, read func(scan func(...any) error) (T, error), query string, args ...any) (out []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		v, err := read(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// number reads one number.
func number(ctx context.Context, q querier, text string, args ...any) (int64, error) {
	found, err := collect(ctx, q, func(scan func(...any) error) (int64, error) {
		var n int64
		err := scan(&n)
		return n, err
	}, text, args...)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return found[0], nil
}

// gapReader reads gaps, inside of a transaction or not.
type gapReader struct {
	db *DB
	q  querier
}

// Get implements [gap.Tx]. Of gaps with one fingerprint, one that is not
// resolved goes first.
func (r gapReader) Get(ctx context.Context, ref string) (*gap.Gap, error) {
	const shortest = 6 // characters of a beginning
	bare := strings.TrimPrefix(ref, "g1:")
	if bare == "" {
		return nil, gap.NotFound(ref)
	}
	exact, err := r.gaps(ctx, "id = $1 OR fingerprint = $2", ref, "g1:"+bare)
	if err != nil {
		return nil, err
	}
	if g := theOne(exact); g != nil {
		return g, nil
	}
	if len(exact) > 1 {
		return nil, gap.Ambiguous(ref)
	}
	if len(bare) < shortest {
		return nil, gap.NotFound(ref)
	}
	some, err := r.gaps(ctx, "id >= $1 AND id < $2 OR fingerprint >= $3 AND fingerprint < $4 LIMIT 10",
		bare, bare+"\x7f", "g1:"+bare, "g1:"+bare+"\x7f")
	if err != nil {
		return nil, err
	}
	switch g := theOne(some); {
	case g != nil:
		return g, nil
	case len(some) == 0:
		return nil, gap.NotFound(ref)
	}
	return nil, gap.Ambiguous(ref)
}

// theOne returns the only gap, or the only live one of gaps with one
// fingerprint.
func theOne(gaps []*gap.Gap) *gap.Gap {
	var one *gap.Gap
	live := 0
	for _, g := range gaps {
		if g.Fingerprint != gaps[0].Fingerprint {
			return nil
		}
		if g.Live() {
			live++
			one = g
		}
	}
	switch {
	case live == 1:
		return one
	case live == 0 && len(gaps) == 1:
		return gaps[0]
	}
	return nil
}

func (r gapReader) gaps(ctx context.Context, where string, args ...any) ([]*gap.Gap, error) {
	return collect(ctx, r.q, scanGap, "SELECT "+gapColumns+" FROM gaps WHERE "+where, args...)
}

func (r gapReader) history(ctx context.Context, id string) ([]gap.Change, error) {
	return collect(ctx, r.q, func(scan func(...any) error) (gap.Change, error) {
		c := gap.Change{GapID: id}
		var at int64
		err := scan(&at, &c.From, &c.To, &c.By, &c.Why)
		c.At = fromNano(at)
		return c, err
	}, "SELECT at, from_state, to_state, by_whom, why FROM gap_history WHERE gap_id = $1 ORDER BY seq", id)
}

// Counts implements [gap.Tx].
func (r gapReader) Counts(ctx context.Context, workspace string) ([]gap.Count, error) {
	return collect(ctx, r.q, func(scan func(...any) error) (gap.Count, error) {
		var c gap.Count
		return c, scan(&c.Workspace, &c.Severity, &c.State, &c.Gaps)
	}, `SELECT workspace, severity, state, count(*) FROM gaps WHERE $1 = '' OR workspace = $1
		GROUP BY workspace, severity, state ORDER BY workspace, severity DESC, state`, workspace)
}

// pathsAtATime bounds the parameters of a statement.
const pathsAtATime = 500

// Gaps implements [gap.Tx].
func (r gapReader) Gaps(ctx context.Context, sel gap.Selection) ([]*gap.Gap, error) {
	if sel.Paths == nil {
		return r.selected(ctx, sel, nil)
	}
	var out []*gap.Gap
	for paths := sel.Paths; len(paths) > 0; {
		n := min(len(paths), pathsAtATime)
		some, err := r.selected(ctx, sel, paths[:n])
		if err != nil {
			return nil, err
		}
		out, paths = append(out, some...), paths[n:]
	}
	return out, nil
}

// Detectors implements [gap.Tx].
func (r gapReader) Detectors(ctx context.Context, workspace string) ([]string, error) {
	return collect(ctx, r.q, func(scan func(...any) error) (name string, err error) {
		err = scan(&name)
		return name, err
	}, "SELECT DISTINCT detector FROM gaps WHERE workspace = $1 AND state <> $2 ORDER BY detector", workspace, string(gap.StateResolved))
}

func (r gapReader) selected(ctx context.Context, sel gap.Selection, paths []string) ([]*gap.Gap, error) {
	q := query{dialect: r.db.dialect}
	q.add("workspace = ?", sel.Workspace)
	if sel.Detector != "" {
		q.add(" AND detector = ?", sel.Detector)
	}
	if sel.Resolved {
		q.add(" AND state = ?", gap.StateResolved)
	} else {
		q.add(" AND state <> ?", gap.StateResolved)
	}
	if !sel.Lapsed.IsZero() {
		q.add(" AND suppressed_until IS NOT NULL AND suppressed_until <= ?", sel.Lapsed.UnixNano())
	}
	if paths != nil {
		q.add(" AND ")
		in(&q, "path", paths)
	}
	return r.gaps(ctx, q.text.String(), q.args...)
}

// gapTx implements [gap.Tx].
type gapTx struct {
	gapReader
	tx    *sql.Tx
	tally gapTally // what becomes of it in the audit log
}

// Put implements [gap.Tx].
func (t *gapTx) Put(ctx context.Context, gaps []*gap.Gap, changes []gap.Change) error {
	err := insert(ctx, t.db, t.tx, putGap, gaps, gapValues)
	if err != nil {
		return fmt.Errorf("store gaps: %w", err)
	}
	err = insert(ctx, t.db, t.tx, putChange, changes, func(args []any, c gap.Change) []any {
		return append(args, c.GapID, c.At.UnixNano(), string(c.From), string(c.To), c.By, c.Why)
	})
	if err != nil {
		return fmt.Errorf("store history: %w", err)
	}
	t.tally.add(gaps, changes)
	return t.db.appendEvents(ctx, t.tx, gapEvents(gaps, changes)...)
}

// Touch implements [gap.Tx].
func (t *gapTx) Touch(ctx context.Context, ids []string, at time.Time) error {
	for len(ids) > 0 {
		n := min(len(ids), pathsAtATime)
		q := query{dialect: t.db.dialect}
		q.add("UPDATE gaps SET last_seen = ? WHERE ", at.UnixNano())
		in(&q, "id", ids[:n])
		if _, err := t.tx.ExecContext(ctx, q.text.String(), q.args...); err != nil {
			return fmt.Errorf("store when gaps were seen: %w", err)
		}
		ids = ids[n:]
	}
	return nil
}

// RecordScan implements [gap.Tx].
func (t *gapTx) RecordScan(ctx context.Context, result *gap.ScanResult) error {
	const kept = 100 // diagnostics
	short := *result
	short.Diagnostics = short.Diagnostics[:min(len(short.Diagnostics), kept)]
	text, err := json.Marshal(&short)
	if err != nil {
		return fmt.Errorf("record scan: %w", err)
	}
	_, err = t.tx.ExecContext(ctx, "INSERT INTO scans (id, workspace, started_at, complete, result) VALUES ($1, $2, $3, $4, $5)",
		result.ID, result.Workspace, result.StartedAt.UnixNano(), result.Complete, string(text))
	if err != nil {
		return fmt.Errorf("record scan: %w", err)
	}
	_, err = t.tx.ExecContext(ctx, `DELETE FROM scans WHERE workspace = $1 AND started_at < (
		SELECT min(started_at) FROM (SELECT started_at FROM scans WHERE workspace = $1 ORDER BY started_at DESC LIMIT $2) AS latest)`,
		result.Workspace, keptScans)
	if err != nil {
		return fmt.Errorf("forget old scans: %w", err)
	}
	return t.db.appendEvents(ctx, t.tx, scanEnded(result))
}
