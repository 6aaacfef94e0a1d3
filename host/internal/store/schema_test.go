package store

import (
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSchemaIsWhatMigrationsMake compares a database that went through all
// migrations with one that was made at once. UPDATE_SCHEMA=1 writes down what the
// migrations make.
func TestSchemaIsWhatMigrationsMake(t *testing.T) {
	const newest = 1 << 62
	migrated, _ := olderDatabase(t, newest)
	t.Cleanup(func() {
		if err := migrated.Close(); err != nil {
			t.Error(err)
		}
	})
	want := schemaOf(t, migrated)
	if os.Getenv("UPDATE_SCHEMA") != "" {
		if err := os.WriteFile("schema/sqlite.sql", []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		sqliteDialect.schema = want
	}
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if sqliteDialect.schema != want || schemaOf(t, db.write) != want {
		t.Errorf("schema/sqlite.sql is not what the migrations make:\n%s\nwrite it anew: UPDATE_SCHEMA=1 go test ./host/internal/store -run %s", want, t.Name())
	}
	for _, table := range texts(t, migrated, "SELECT name FROM sqlite_master WHERE type = 'table' AND "+ownTables) {
		if n := texts(t, migrated, "SELECT count(*) FROM "+table)[0]; n != "0" {
			t.Errorf("migrations put %s rows into %s, which a new database lacks", n, table)
		}
	}
	const versions = "SELECT version_id || ' ' || is_applied FROM goose_db_version ORDER BY id"
	if got, want := texts(t, db.write, versions), texts(t, migrated, versions); !slices.Equal(got, want) {
		t.Errorf("versions %q, want %q", got, want)
	}
	provider, err := db.migrator()
	if err != nil {
		t.Fatal(err)
	}
	if pending, err := provider.HasPending(t.Context()); err != nil || pending {
		t.Errorf("migrations are pending: %v, %v", pending, err)
	}
}

// ownTables leaves out those of SQLite and goose.
const ownTables = "tbl_name NOT LIKE 'sqlite_%' AND tbl_name <> 'goose_db_version'"

// schemaOf is what makes the schema of a database, in the order in which it was
// made.
func schemaOf(t *testing.T, db *sql.DB) string {
	t.Helper()
	var b strings.Builder
	for _, text := range texts(t, db, "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND "+ownTables+" ORDER BY rowid") {
		b.WriteString(text + ";\n")
	}
	return b.String()
}

// texts are the rows of a query of one column.
func texts(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	found, err := collect(t.Context(), db, func(scan func(...any) error) (text string, err error) {
		err = scan(&text)
		return text, err
	}, query)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
