package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// checkTime bounds how long the host waits for the check at its start. Larger
// databases are checked to the end while it runs.
const checkTime = 2 * time.Second

// structureCheck reads the structure of every page once after the database was
// opened. Damage that it finds in time keeps the database from being opened, and
// damage that it finds later from being written to. Damage that shows when a
// page is used is the error of that use.
type structureCheck struct {
	unfinished bool
	damage     atomic.Pointer[error]
	stop       context.CancelFunc
	done       chan struct{}
}

// begin checks before anything is written, for a limited time.
func (c *structureCheck) begin(ctx context.Context, db *DB) error {
	return c.within(ctx, db, checkTime)
}

func (c *structureCheck) within(ctx context.Context, db *DB, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := db.quickCheck(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		c.unfinished = true
		return nil
	}
	return err
}

// goOn checks the rest where begin had too little time, until end.
func (c *structureCheck) goOn(db *DB) {
	if !c.unfinished {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop, c.done = cancel, make(chan struct{})
	go func() {
		defer close(c.done)
		if err := db.quickCheck(ctx); err != nil && ctx.Err() == nil {
			c.damage.Store(&err)
		}
	}()
}

// found returns the damage that was found after the start, or nil.
func (c *structureCheck) found() error {
	if err := c.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// end stops the check. It may be called again.
func (c *structureCheck) end() {
	if c.stop != nil {
		c.stop()
		<-c.done
	}
}

// quickCheck reads the structure of the database, until ctx is done.
func (db *DB) quickCheck(ctx context.Context) error {
	var verdict string
	if err := db.read.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return db.translate(err)
	}
	if verdict != "ok" {
		return db.corrupt(errors.New(verdict))
	}
	return nil
}

// Examine reads all of the database, every page and index and what refers to
// what, until ctx is done; it changes nothing. A schema newer than this program's
// is an error.
func (db *DB) Examine(ctx context.Context) error {
	if err := db.knowsSchema(ctx); err != nil {
		return err
	}
	var verdict string
	if err := db.read.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return db.translate(err)
	}
	if verdict != "ok" {
		return db.corrupt(errors.New(verdict))
	}
	var table string
	err := db.read.QueryRowContext(ctx, `SELECT "table" FROM pragma_foreign_key_check LIMIT 1`).Scan(&table)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return db.translate(err)
	}
	return db.corrupt(fmt.Errorf("a row of %s refers to one that is not there", table))
}

// knowsSchema compares the schema with what this program has.
func (db *DB) knowsSchema(ctx context.Context) error {
	provider, err := db.migrator()
	if err != nil {
		return err
	}
	var current int64
	if err := db.read.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version").Scan(&current); err != nil {
		return db.translate(err)
	}
	if sources := provider.ListSources(); len(sources) > 0 {
		return db.newer(current, sources[len(sources)-1].Version)
	}
	return nil
}
