package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/patch"
)

// Patches is the [patch.Store] in a database.
type Patches struct{ db *DB }

var (
	_ patch.Store = (*Patches)(nil)
	_ patch.Tx    = (*patchTx)(nil)
)

// Patches returns the patch store.
func (db *DB) Patches() *Patches { return &Patches{db} }

// Update implements [patch.Store].
func (s *Patches) Update(ctx context.Context, fn func(tx patch.Tx) error) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		return fn(&patchTx{patchReader{s.db, tx}, tx})
	})
}

// Get implements [patch.Store].
func (s *Patches) Get(ctx context.Context, ref string) (*patch.Patch, error) {
	r := patchReader{s.db, s.db.read}
	p, err := r.Get(ctx, ref)
	if err != nil {
		return nil, s.db.translate(err)
	}
	p.History, err = r.history(ctx, p)
	return p, s.db.translate(err)
}

// List implements [patch.Store].
func (s *Patches) List(ctx context.Context, filter patch.Filter) (patch.Page, error) {
	page, err := patchReader{s.db, s.db.read}.list(ctx, &filter)
	return page, s.db.translate(err)
}

// Contents implements [patch.Store].
func (s *Patches) Contents(ctx context.Context) (map[string]int64, error) {
	out := make(map[string]int64)
	_, err := collect(ctx, s.db.read, func(scan func(...any) error) (struct{}, error) {
		var hash string
		var size int64
		err := scan(&hash, &size)
		out[hash] = size
		return struct{}{}, err
	}, "SELECT hash, max(size) FROM patch_contents GROUP BY hash")
	return out, s.db.translate(err)
}

// Kept implements [patch.Store].
func (s *Patches) Kept(ctx context.Context) (int64, error) {
	n, err := number(ctx, s.db.read, "SELECT coalesce(sum(size), 0) FROM (SELECT max(size) AS size FROM patch_contents GROUP BY hash) AS each_once")
	return n, s.db.translate(err)
}

// patchReader reads patches, inside of a transaction or not.
type patchReader struct {
	db *DB
	q  querier
}

// Get implements [patch.Tx].
func (r patchReader) Get(ctx context.Context, ref string) (*patch.Patch, error) {
	if ref == "" {
		return nil, patch.NotFound(ref)
	}
	found, err := r.patches(ctx, patchColumns, "id >= $1 AND id < $2 ORDER BY id LIMIT 2", ref, ref+"\U0010ffff")
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, patch.NotFound(ref)
	case len(found) > 1:
		return nil, patch.Ambiguous(ref)
	}
	return found[0], nil
}

// ByKey implements [patch.Tx].
func (r patchReader) ByKey(ctx context.Context, key string) (*patch.Patch, error) {
	found, err := r.patches(ctx, patchColumns, "proposal_key = $1 AND proposal_key <> ''", key)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

func (r patchReader) patches(ctx context.Context, columns, where string, args ...any) ([]*patch.Patch, error) {
	return collect(ctx, r.q, scanPatch, "SELECT "+columns+" FROM patches WHERE "+where, args...)
}

func (r patchReader) history(ctx context.Context, p *patch.Patch) ([]patch.Change, error) {
	return collect(ctx, r.q, func(scan func(...any) error) (patch.Change, error) {
		c := patch.Change{PatchID: p.ID, Task: p.Task, Workspace: p.Workspace, Hash: p.Hash}
		var at int64
		err := scan(&c.Action, &at, &c.From, &c.To, &c.By, &c.Why, &c.Token)
		c.At = fromNano(at)
		return c, err
	}, "SELECT action, at, from_state, to_state, by_whom, why, token FROM patch_history WHERE patch_id = $1 ORDER BY seq", p.ID)
}

// patchTx implements [patch.Tx].
type patchTx struct {
	patchReader
	tx *sql.Tx
}

// Create implements [patch.Tx].
func (t *patchTx) Create(ctx context.Context, p *patch.Patch, key string, contents map[string]int64, change patch.Change) error {
	err := insert(ctx, t.db, t.tx, putPatch, []*patch.Patch{p}, func(args []any, p *patch.Patch) []any {
		return append(patchValues(args, p), key)
	})
	if err != nil {
		return fmt.Errorf("store patch: %w", err)
	}
	err = insert(ctx, t.db, t.tx, putPatchContent, slices.Sorted(maps.Keys(contents)), func(args []any, hash string) []any {
		return append(args, p.ID, hash, contents[hash])
	})
	if err != nil {
		return fmt.Errorf("store contents of patch: %w", err)
	}
	return t.record(ctx, change)
}

// updatePatch replaces what changes in a patch.
var updatePatch = func() string {
	names := strings.Split(patchMoving, ", ")
	for i, name := range names {
		names[i] = fmt.Sprintf("%s = $%d", name, i+2)
	}
	return "UPDATE patches SET " + strings.Join(names, ", ") + " WHERE id = $1"
}()

// Put implements [patch.Tx].
func (t *patchTx) Put(ctx context.Context, p *patch.Patch, change patch.Change) error {
	if _, err := t.tx.ExecContext(ctx, updatePatch, append([]any{p.ID}, patchMovingValues(p)...)...); err != nil {
		return fmt.Errorf("store patch: %w", err)
	}
	return t.record(ctx, change)
}

// record is the one place where changes of patches are written, to their history
// and to the audit log.
func (t *patchTx) record(ctx context.Context, c patch.Change) error {
	if err := insert(ctx, t.db, t.tx, putPatchChange, []patch.Change{c}, patchChangeValues); err != nil {
		return fmt.Errorf("store history of patch: %w", err)
	}
	return t.db.appendAudit(ctx, t.tx, patchRecord(c))
}

func patchRecord(c patch.Change) audit.Record {
	attributes := map[string]string{"hash": c.Hash, "workspace": c.Workspace}
	if c.Task != "" {
		attributes["task"] = c.Task
	}
	if c.From != c.To {
		attributes["from"], attributes["to"] = string(c.From), string(c.To)
	}
	for name, value := range map[string]string{"source": c.Source, "backup": c.Backup} {
		if value != "" {
			attributes[name] = value
		}
	}
	return audit.Record{
		Actor: c.By, Action: "patch." + string(c.Action), Resource: "patch/" + c.PatchID, Outcome: audit.Success, Reason: c.Why, Token: c.Token, Attributes: attributes,
	}
}

// throughStates are those in which nobody needs the content of a patch but to take
// it back.
func throughStates() (out []patch.State) {
	for _, s := range patch.States() {
		if s.Terminal() || s == patch.StateIntegrated {
			out = append(out, s)
		}
	}
	return out
}

// Drop implements [patch.Tx].
func (t *patchTx) Drop(ctx context.Context, before time.Time, limit int) (int, error) {
	q := query{dialect: t.db.dialect}
	q.add("SELECT id FROM patches WHERE ")
	in(&q, "state", throughStates())
	q.add(" AND changed_at < ? AND NOT dropped ORDER BY changed_at LIMIT ?", before.UnixNano(), int64(limit))
	ids, err := collect(ctx, t.tx, func(scan func(...any) error) (id string, err error) {
		err = scan(&id)
		return id, err
	}, q.text.String(), q.args...)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	for _, statement := range []string{"UPDATE patches SET dropped = TRUE WHERE ", "DELETE FROM patch_contents WHERE "} {
		q := query{dialect: t.db.dialect}
		q.add(statement)
		column := "id"
		if strings.HasPrefix(statement, "DELETE") {
			column = "patch_id"
		}
		in(&q, column, ids)
		if _, err := t.tx.ExecContext(ctx, q.text.String(), q.args...); err != nil {
			return 0, fmt.Errorf("drop contents of patches: %w", err)
		}
	}
	return len(ids), nil
}
