package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// Tokens are written when a group ends, all that it changed with a statement or
// two: a statement for each use would cost more than the rest of a use. Until
// then they are in the group's memory, and what the last groups wrote or read is
// in the writer's.

// tokenRow is a token as it is, or is to be, in the database. It is never changed,
// only replaced.
type tokenRow struct {
	token.Token
	whole bool // more was changed than a use does
}

// tokenRows are tokens as they were committed, by accessor. The host is the only
// writer as long as it runs, except for an emergency stop of one that hangs:
// [tokenRows.fresh] notices that.
type tokenRows struct {
	byAccessor map[string]*tokenRow
	version    int64 // of the database, when they were
}

// mostTokenRows bounds the memory of the writer.
const mostTokenRows = 8192

func (r *tokenRows) keep(accessor string, row *tokenRow) {
	if r.byAccessor == nil {
		r.byAccessor = make(map[string]*tokenRow)
	}
	if len(r.byAccessor) >= mostTokenRows && r.byAccessor[accessor] == nil {
		for other := range r.byAccessor {
			delete(r.byAccessor, other)
			break
		}
	}
	r.byAccessor[accessor] = row
}

// committed takes over what a group has written.
func (r *tokenRows) committed(p *pendingTokens) {
	for _, accessor := range p.order {
		r.keep(accessor, &tokenRow{Token: p.rows[accessor].Token})
	}
}

// fresh forgets the rows if somebody else has written to the database since. In
// a write transaction nobody can any more.
func (r *tokenRows) fresh(ctx context.Context, db *DB, tx *sql.Tx) error {
	now, err := number(ctx, tx, db.dialect.version)
	if err != nil {
		return err
	}
	if now != r.version {
		*r = tokenRows{version: now}
	}
	return nil
}

// pendingTokens are the tokens that a group has changed and not yet written.
type pendingTokens struct {
	fresh bool // the writer's rows were looked at
	rows  map[string]*tokenRow
	order []string      // their accessors, by their first change
	undo  []replacedRow // to take back the changes of one turn
	// answers come after the tokens that they are about
	answers []pendingAnswer
}

type pendingAnswer struct {
	id, key string
	answer  *token.Answer
}

// tokenMark is what a group has changed so far.
type tokenMark struct{ changes, answers int }

// replacedRow is what a change replaced; nil: nothing.
type replacedRow struct {
	accessor string
	row      *tokenRow
}

// mark remembers what has been changed, for reset.
func (p *pendingTokens) mark() tokenMark { return tokenMark{len(p.undo), len(p.answers)} }

func (p *pendingTokens) reset(mark tokenMark) {
	p.answers = p.answers[:mark.answers]
	for len(p.undo) > mark.changes {
		last := p.undo[len(p.undo)-1]
		p.undo = p.undo[:len(p.undo)-1]
		if last.row != nil {
			p.rows[last.accessor] = last.row
			continue
		}
		delete(p.rows, last.accessor)
		p.order = p.order[:len(p.order)-1]
	}
}

func (p *pendingTokens) put(row *tokenRow) {
	if p.rows == nil {
		p.rows = make(map[string]*tokenRow)
	}
	before := p.rows[row.Accessor]
	if before == nil {
		p.order = append(p.order, row.Accessor)
	}
	p.undo = append(p.undo, replacedRow{row.Accessor, before})
	p.rows[row.Accessor] = row
}

// row returns a token as the transaction has it, or nil.
func (t *tokenTx) row(ctx context.Context, accessor string) (*tokenRow, error) {
	pending := &t.lazy.group.tokens
	if row := pending.rows[accessor]; row != nil {
		return row, nil
	}
	known := &t.db.writer.tokens
	if !pending.fresh {
		if err := known.fresh(ctx, t.db, t.lazy.tx); err != nil {
			return nil, err
		}
		pending.fresh = true
	}
	if row := known.byAccessor[accessor]; row != nil {
		return row, nil
	}
	found, err := t.tokenReader.Find(ctx, accessor)
	if err != nil || found == nil {
		return nil, err
	}
	row := &tokenRow{Token: *found}
	known.keep(accessor, row)
	return row, nil
}

// Find implements [token.Tx].
func (t *tokenTx) Find(ctx context.Context, accessor string) (*token.Token, error) {
	row, err := t.row(ctx, accessor)
	if err != nil || row == nil {
		return nil, err
	}
	found := row.Token
	return &found, nil
}

// Get implements [token.Tx].
func (t *tokenTx) Get(ctx context.Context, ref string) (*token.Token, error) {
	if token.IsAccessor(ref) {
		if found, err := t.Find(ctx, ref); err != nil || found != nil {
			return found, err
		}
	}
	if err := t.settle(ctx); err != nil {
		return nil, err
	}
	return t.tokenReader.Get(ctx, ref)
}

// Due implements [token.Tx].
func (t *tokenTx) Due(ctx context.Context, at time.Time, limit int) ([]*token.Token, error) {
	if err := t.settle(ctx); err != nil {
		return nil, err
	}
	return t.tokenReader.Due(ctx, at, limit)
}

// Descendants implements [token.Tx].
func (t *tokenTx) Descendants(ctx context.Context, id string) ([]*token.Token, error) {
	if err := t.settle(ctx); err != nil {
		return nil, err
	}
	return t.tokenReader.Descendants(ctx, id)
}

// settle writes what is pending, so that a statement sees it. It stays pending,
// since this turn may be undone and others not.
func (t *tokenTx) settle(ctx context.Context) error {
	if len(t.lazy.group.tokens.order) == 0 {
		return nil
	}
	tx, err := t.lazy.writing(ctx)
	if err != nil {
		return err
	}
	return t.db.flushTokens(ctx, tx, &t.lazy.group.tokens)
}

// Take implements [token.Tx].
func (t *tokenTx) Take(ctx context.Context, known *token.Token, uses, reserve int, at time.Time) (*token.Token, error) {
	row, err := t.row(ctx, known.Accessor)
	if err != nil || row == nil || !row.has(uses+reserve, at) {
		return nil, err
	}
	next := *row
	next.Uses += uses
	next.Reserved += reserve
	next.Version++
	next.ChangedAt = fromNano(at.UnixNano())
	if uses > 0 {
		next.LastUse = next.ChangedAt
	}
	t.lazy.group.tokens.put(&next)
	taken := next.Token
	return &taken, nil
}

// has says whether as many uses are left at a time.
func (r *tokenRow) has(uses int, at time.Time) bool {
	return r.State == token.StateActive && !r.NotBefore.After(at) && r.ExpiresAt.After(at) && r.Uses+r.Reserved+uses <= r.MaxUses
}

// put replaces a token in the transaction, or puts it there.
func (t *tokenTx) put(changed *token.Token) {
	row := &tokenRow{Token: *changed, whole: true}
	row.History = nil
	for _, at := range []*time.Time{&row.CreatedAt, &row.NotBefore, &row.ExpiresAt, &row.ChangedAt, &row.LastUse} {
		if !at.IsZero() {
			*at = fromNano(at.UnixNano()) // as it would be read
		}
	}
	t.lazy.group.tokens.put(row)
}

// flushTokens writes the tokens that a group has changed.
func (db *DB) flushTokens(ctx context.Context, tx *sql.Tx, pending *pendingTokens) error {
	var whole, used []*tokenRow
	for _, accessor := range pending.order {
		if row := pending.rows[accessor]; row.whole {
			whole = append(whole, row)
		} else {
			used = append(used, row)
		}
	}
	if err := insert(ctx, db, tx, putToken, whole, func(args []any, r *tokenRow) []any { return tokenValues(args, &r.Token) }); err != nil {
		return fmt.Errorf("store tokens: %w", err)
	}
	err := inParts(used, usedColumns, usedValues, func(n int, args []any) error {
		result, err := tx.ExecContext(ctx, usedText(db.dialect, n), args...)
		if err != nil {
			return err
		}
		written, err := result.RowsAffected()
		if err == nil && written != int64(n) {
			err = sdk.Errorf(codes.DataLoss, "STORE_TOKENS", "of %d tokens that were used, the database has %d", n, written).
				WithRemedy("somebody else has changed the database: find out what with `sop audit verify`")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("store uses: %w", err)
	}
	return nil
}

// flushAnswers writes what callers are to be answered who come again. Their tokens
// have been written.
func (db *DB) flushAnswers(ctx context.Context, tx *sql.Tx, pending *pendingTokens) error {
	if err := insert(ctx, db, tx, putTokenAnswer, pending.answers, answerValues); err != nil {
		return fmt.Errorf("store answers: %w", err)
	}
	return nil
}

const usedColumns = 6

func usedValues(args []any, r *tokenRow) []any {
	var used any
	if !r.LastUse.IsZero() {
		used = r.LastUse.UnixNano()
	}
	return append(args, r.Accessor, int64(r.Uses), int64(r.Reserved), r.Version, r.ChangedAt.UnixNano(), used)
}

// usedText is the statement that writes n rows of usedValues.
func usedText(d *dialect, n int) string {
	return "WITH used (accessor, uses, reserved, version, changed_at, last_use) AS (VALUES " + d.tuples(n, usedColumns) +
		") UPDATE tokens SET uses = used.uses, reserved = used.reserved, version = used.version, changed_at = used.changed_at," +
		" last_use = used.last_use FROM used WHERE tokens.accessor = used.accessor"
}
