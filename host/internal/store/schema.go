package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// sqliteSchema is what all migrations together make of an empty database. It is
// not written by hand: TestSchemaIsWhatMigrationsMake compares it with them, and
// writes it anew when it is told to.
//
//go:embed schema/sqlite.sql
var sqliteSchema string

// create gives a database that has nothing in it the schema as it is now, at once;
// its whole history, step by step, takes several times as long. Others are left to
// the migrations.
func (db *DB) create(ctx context.Context, migrations *goose.Provider) (err error) {
	if things, err := number(ctx, db.write, db.dialect.things); err != nil || things > 0 {
		return err
	}
	versions, err := database.NewStore(db.dialect.goose, goose.DefaultTablename)
	if err != nil {
		return fmt.Errorf("table of schema versions: %w", err)
	}
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreDone(tx.Rollback())) }()
	if _, err := tx.ExecContext(ctx, db.dialect.schema); err != nil {
		return fmt.Errorf("make the schema: %w", err)
	}
	if err := versions.CreateVersionTable(ctx, tx); err != nil {
		return fmt.Errorf("make the table of schema versions: %w", err)
	}
	made := []int64{0} // where goose begins
	for _, m := range migrations.ListSources() {
		made = append(made, m.Version)
	}
	for _, version := range made {
		if err := versions.Insert(ctx, tx, database.InsertRequest{Version: version}); err != nil {
			return fmt.Errorf("note schema version %d: %w", version, err)
		}
	}
	return tx.Commit()
}
