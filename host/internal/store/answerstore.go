package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sop-host/sop/host/internal/answer"
)

// Answers is the [answer.Store] in a database.
type Answers struct{ db *DB }

var _ answer.Store = (*Answers)(nil)

// Answers returns the store of answers.
func (db *DB) Answers() *Answers { return &Answers{db} }

// forgottenAtOnce is how many old rows one reservation deletes: more than it
// adds, so that they get fewer.
const forgottenAtOnce = 16

// Reserve implements [answer.Store].
func (s *Answers) Reserve(ctx context.Context, row answer.Row, before time.Time, full bool) (earlier *answer.Row, gone answer.Usage, err error) {
	err = s.db.update(ctx, func(tx *sql.Tx) error {
		earlier, gone = nil, answer.Usage{}
		found, err := collect(ctx, tx, scanAnswer, "SELECT id, request, at, sealed FROM api_answers WHERE id = $1", row.ID)
		if err != nil {
			return err
		}
		old, err := collect(ctx, tx, scanAnswer, "SELECT id, request, at, sealed FROM api_answers WHERE at <= $1 ORDER BY at LIMIT $2",
			before.UnixNano(), forgottenAtOnce)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			if found[0].At.After(before) {
				earlier = found[0]
			} else {
				old = append(old, found[0])
			}
		}
		if gone, err = forget(ctx, tx, old); err != nil || earlier != nil || full {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO api_answers (id, request, at) VALUES ($1, $2, $3)", row.ID, row.Request, row.At.UnixNano())
		if err != nil {
			return fmt.Errorf("reserve answer: %w", err)
		}
		return nil
	})
	return earlier, gone, err
}

// forget deletes rows, of which one may stand there twice.
func forget(ctx context.Context, tx *sql.Tx, rows []*answer.Row) (answer.Usage, error) {
	var gone answer.Usage
	for i, r := range rows {
		if i > 0 && i == len(rows)-1 && containsRow(rows[:i], r) {
			continue
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM api_answers WHERE id = $1", r.ID); err != nil {
			return gone, fmt.Errorf("forget answer: %w", err)
		}
		gone.Rows++
		gone.Bytes += int64(len(r.Sealed))
	}
	return gone, nil
}

func containsRow(rows []*answer.Row, row *answer.Row) bool {
	for _, r := range rows {
		if bytes.Equal(r.ID, row.ID) {
			return true
		}
	}
	return false
}

func scanAnswer(scan func(...any) error) (*answer.Row, error) {
	r := new(answer.Row)
	var at int64
	err := scan(&r.ID, &r.Request, &at, &r.Sealed)
	r.At = fromNano(at)
	return r, err
}

// Answer implements [answer.Store].
func (s *Answers) Answer(ctx context.Context, id, sealed []byte) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE api_answers SET sealed = $2 WHERE id = $1", id, sealed)
		return err
	})
}

// Release implements [answer.Store].
func (s *Answers) Release(ctx context.Context, id []byte) error {
	return s.db.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM api_answers WHERE id = $1", id)
		return err
	})
}

// Usage implements [answer.Store].
func (s *Answers) Usage(ctx context.Context) (answer.Usage, error) {
	found, err := collect(ctx, s.db.read, func(scan func(...any) error) (answer.Usage, error) {
		var u answer.Usage
		err := scan(&u.Rows, &u.Bytes)
		return u, err
	}, "SELECT count(*), coalesce(sum(length(sealed)), 0) FROM api_answers")
	if err != nil || len(found) == 0 {
		return answer.Usage{}, s.db.translate(err)
	}
	return found[0], nil
}
