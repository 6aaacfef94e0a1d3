package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sop-host/sop/host/internal/token"
)

// Tokens is the [token.Store] in a database.
type Tokens struct{ db *DB }

var (
	_ token.Store = (*Tokens)(nil)
	_ token.Tx    = (*tokenTx)(nil)
)

// Tokens returns the token store.
func (db *DB) Tokens() *Tokens { return &Tokens{db} }

// Update implements [token.Store].
func (s *Tokens) Update(ctx context.Context, fn func(tx token.Tx) error) error {
	return s.db.lazily(ctx, func(tx *lazyTx) error {
		return fn(&tokenTx{tokenReader{s.db, tx.tx}, tx})
	})
}

// Find implements [token.Store].
func (s *Tokens) Find(ctx context.Context, accessor string) (*token.Token, error) {
	t, err := tokenReader{s.db, s.db.read}.Find(ctx, accessor)
	return t, s.db.translate(err)
}

// Get implements [token.Store].
func (s *Tokens) Get(ctx context.Context, ref string) (*token.Token, error) {
	r := tokenReader{s.db, s.db.read}
	t, err := r.Get(ctx, ref)
	if err != nil {
		return nil, s.db.translate(err)
	}
	t.History, err = r.history(ctx, t)
	return t, s.db.translate(err)
}

// List implements [token.Store].
func (s *Tokens) List(ctx context.Context, filter token.Filter) (token.Page, error) {
	page, err := tokenReader{s.db, s.db.read}.list(ctx, filter)
	return page, s.db.translate(err)
}

// Held implements [token.Store].
func (s *Tokens) Held(ctx context.Context, requester string, limit int) ([]string, error) {
	held, err := collect(ctx, s.db.read, func(scan func(...any) error) (accessor string, err error) { return accessor, scan(&accessor) }, `
		WITH RECURSIVE tree (id) AS (
			SELECT id FROM tokens WHERE requester = $1
			UNION SELECT t.id FROM tokens t JOIN tree ON t.parent = tree.id AND t.parent <> ''
		) SELECT accessor FROM tokens WHERE id IN (SELECT id FROM tree) AND state IN ('pending', 'active') ORDER BY id LIMIT $2`, requester, limit)
	return held, s.db.translate(err)
}

// Clock implements [token.Store].
func (s *Tokens) Clock(ctx context.Context) (time.Time, error) {
	marks, err := collect(ctx, s.db.read, func(scan func(...any) error) (int64, error) {
		var at int64
		return at, scan(&at)
	}, "SELECT at FROM token_clock WHERE id = 1")
	if err != nil || len(marks) == 0 {
		return time.Time{}, s.db.translate(err)
	}
	return fromNano(marks[0]), nil
}

// tokenReader reads tokens, inside of a transaction or not.
type tokenReader struct {
	db *DB
	q  querier
}

func (r tokenReader) tokens(ctx context.Context, where string, args ...any) ([]*token.Token, error) {
	return collect(ctx, r.q, scanToken, "SELECT "+tokenColumns+" FROM tokens WHERE "+where, args...)
}

// Find implements [token.Tx].
func (r tokenReader) Find(ctx context.Context, accessor string) (*token.Token, error) {
	found, err := r.tokens(ctx, "accessor = $1", accessor)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// Get implements [token.Tx].
func (r tokenReader) Get(ctx context.Context, ref string) (*token.Token, error) {
	if token.IsAccessor(ref) {
		if t, err := r.Find(ctx, ref); err != nil || t != nil {
			return t, err
		}
	}
	if ref == "" {
		return nil, token.NotFound(ref)
	}
	found, err := r.tokens(ctx, "id >= $1 AND id < $2 ORDER BY id LIMIT 2", ref, ref+"\U0010ffff")
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, token.NotFound(ref)
	case len(found) > 1:
		return nil, token.Ambiguous(ref)
	}
	return found[0], nil
}

// Due implements [token.Tx]. Each half has its index.
func (r tokenReader) Due(ctx context.Context, at time.Time, limit int) ([]*token.Token, error) {
	expired, err := r.tokens(ctx, "state IN ('pending', 'active') AND expires_at <= $1 ORDER BY expires_at LIMIT $2", at.UnixNano(), limit)
	if err != nil || len(expired) >= limit {
		return expired, err
	}
	begun, err := r.tokens(ctx, "state = 'pending' AND not_before <= $1 AND expires_at > $1 ORDER BY not_before LIMIT $2",
		at.UnixNano(), limit-len(expired))
	return append(expired, begun...), err
}

// Descendants implements [token.Tx].
func (r tokenReader) Descendants(ctx context.Context, id string) ([]*token.Token, error) {
	return r.tokens(ctx, `id IN (
		WITH RECURSIVE tree (id) AS (
			SELECT id FROM tokens WHERE parent = $1 AND parent <> ''
			UNION SELECT t.id FROM tokens t JOIN tree ON t.parent = tree.id AND t.parent <> ''
		) SELECT id FROM tree) ORDER BY id`, id)
}

// tokenTx implements [token.Tx].
type tokenTx struct {
	tokenReader // of what was written
	lazy        *lazyTx
}

// Put implements [token.Tx].
func (t *tokenTx) Put(ctx context.Context, tokens []*token.Token, changes []token.Change) error {
	for _, changed := range tokens {
		t.put(changed)
	}
	return t.record(ctx, changes)
}

// record is the one place where changes of tokens are written, to the history
// and to the audit log, both when the group ends. Single uses are in the audit
// log only: the history of a token would grow with them.
func (t *tokenTx) record(ctx context.Context, changes []token.Change) error {
	g := t.lazy.group
	for i := range changes {
		if changes[i].Action != token.Used {
			g.history = append(g.history, changes[i])
		}
		if err := t.db.appendRecord(ctx, t.lazy.tx, tokenRecord(&changes[i])); err != nil {
			return err
		}
	}
	return nil
}

// Answer implements [token.Tx].
func (t *tokenTx) Answer(ctx context.Context, id, key string) (*token.Answer, error) {
	for _, p := range slices.Backward(t.lazy.group.tokens.answers) {
		if p.id == id && p.key == key {
			return p.answer, nil
		}
	}
	a := new(token.Answer)
	var at int64
	var text []byte
	err := t.lazy.tx.QueryRowContext(ctx, "SELECT at, request, answer FROM token_answers WHERE token_id = $1 AND key = $2", id, key).
		Scan(&at, &a.Request, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a.At = fromNano(at)
	if err := json.Unmarshal(text, &a.Use); err != nil {
		return nil, fmt.Errorf("answer in the database: %w", err)
	}
	return a, nil
}

// PutAnswer implements [token.Tx]. It is written when the group ends.
func (t *tokenTx) PutAnswer(_ context.Context, id, key string, a *token.Answer) error {
	pending, kept := &t.lazy.group.tokens, *a
	pending.answers = append(pending.answers, pendingAnswer{id, key, &kept})
	return nil
}

// ForgetAnswers implements [token.Tx].
func (t *tokenTx) ForgetAnswers(ctx context.Context, before time.Time, limit int) error {
	tx, err := t.lazy.writing(ctx)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM token_answers WHERE (token_id, key) IN (
		SELECT token_id, key FROM token_answers WHERE at < $1 ORDER BY at LIMIT $2)`, before.UnixNano(), limit)
	if err != nil {
		return fmt.Errorf("forget answers: %w", err)
	}
	return nil
}

// SetClock implements [token.Tx].
func (t *tokenTx) SetClock(ctx context.Context, at time.Time) error {
	tx, err := t.lazy.writing(ctx)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO token_clock (id, at) VALUES (1, $1)
		ON CONFLICT (id) DO UPDATE SET at = excluded.at WHERE excluded.at > token_clock.at`, at.UnixNano())
	if err != nil {
		return fmt.Errorf("store the time: %w", err)
	}
	return nil
}
