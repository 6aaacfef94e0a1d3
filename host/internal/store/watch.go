package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/sdk"
)

// watch is what can be seen of a database from outside.
type watch struct {
	waiting atomic.Int64
	onGroup atomic.Pointer[func(size int, commit time.Duration, err error)]
	refused atomic.Pointer[refusal] // nil: the latest write was not refused
}

// refusal is that the database took no write, for what is wrong beneath it.
type refusal struct {
	since time.Time
	err   error
}

// came takes note of what came of a write.
func (w *watch) came(err error) {
	if err == nil {
		if w.refused.Load() != nil {
			w.refused.Store(nil)
		}
		return
	}
	switch e := sdk.FromError(err); e.Reason {
	case reasonFull, reasonIO, reasonReadOnly, reasonGone:
		w.refused.CompareAndSwap(nil, &refusal{time.Now(), err})
	}
}

// Refused says why the latest write was refused, if it was for what is wrong
// beneath the database, or why any would be, or nil. [DB.Writable] says whether it is still
// so.
func (db *DB) Refused() error {
	if err := db.place.check(); err != nil {
		return err
	}
	if r := db.watch.refused.Load(); r != nil {
		return r.err
	}
	return nil
}

// OnGroup makes fn hear of every transaction: how many callers shared it, how
// long its commit took, the sync to disk included, and what came of it. fn is
// called by the one goroutine that commits and must not block.
func (db *DB) OnGroup(fn func(size int, commit time.Duration, err error)) {
	db.watch.onGroup.Store(&fn)
}

func (db *DB) observeGroup(size int, commit time.Duration, err error) {
	if fn := db.watch.onGroup.Load(); fn != nil {
		(*fn)(size, commit, err)
	}
}

// Waiting is how many callers are writing or wait to.
func (db *DB) Waiting() int64 { return db.watch.waiting.Load() }

// Size is how many bytes the database takes on disk, with its log.
func (db *DB) Size() (int64, error) {
	if db.path == "" {
		return 0, nil
	}
	var sum int64
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(db.path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, nil
}

// Writable says what keeps the database from being written to, or nil. It
// writes what is there already, durably and in the order of all writers. That
// needs no room; where a write has been refused, nothing less than a record in the
// audit log shows that it would not be again, and it says since when that was so.
func (db *DB) Writable(ctx context.Context) error {
	if r := db.watch.refused.Load(); r != nil {
		return db.Audit().Append(ctx, audit.Record{
			Actor: "host", Action: "store.writable", Resource: "store", Outcome: audit.Success, Reason: "writes are taken again",
			Attributes: map[string]string{"refused_since": r.since.UTC().Format(time.RFC3339Nano), "code": sdk.FromError(r.err).Reason},
		})
	}
	return db.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE audit_head SET size = size WHERE id = 1")
		return err
	})
}

// CountTokens counts tokens by type and state as of a time. It reads them all.
func (db *DB) CountTokens(ctx context.Context, at time.Time) ([]token.Count, error) {
	q := query{dialect: db.dialect}
	q.add("SELECT type, "+stateAt+" AS state_at, count(*) FROM tokens GROUP BY type, state_at", at.UnixNano(), at.UnixNano())
	rows, err := db.read.QueryContext(ctx, q.text.String(), q.args...)
	if err != nil {
		return nil, db.translate(err)
	}
	defer func() { _ = rows.Close() }() // only read
	var out []token.Count
	for rows.Next() {
		var c token.Count
		if err := rows.Scan(&c.Type, &c.State, &c.Tokens); err != nil {
			return nil, db.translate(err)
		}
		out = append(out, c)
	}
	return out, db.translate(rows.Err())
}
