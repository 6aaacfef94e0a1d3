package store

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/sop-host/sop/sdk"
)

// Damage that there was no time to find at the start is found afterwards, and
// nothing is written from then on.
func TestDamageThatIsFoundLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sop.db")
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	err = db.update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "CREATE TABLE last AS SELECT printf('%3000d', value) AS text FROM json_each('["+fill(200)+"]')")
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(content[len(content)-8192:])
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}

	write, err := openPatient(dsn(path, url.Values{}))
	if err != nil {
		t.Fatal(err)
	}
	db = &DB{path: path, dialect: &sqliteDialect, write: write, read: write}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	db.writer = newWriter(db)
	if err := db.check.within(t.Context(), db, 0); err != nil || !db.check.unfinished {
		t.Fatalf("the check had no time, and says %v", err)
	}
	db.check.goOn(db)
	<-db.check.done
	err = db.update(t.Context(), func(*sql.Tx) error { return nil })
	if e := sdk.FromError(err); e == nil || e.Reason != "STORE_CORRUPT" || e.Remedy == "" {
		t.Errorf("got %v", err)
	}
}

func fill(n int) (out string) {
	for i := range n {
		out += fmt.Sprint(i, ",")
	}
	return out + "0"
}

// A database that can only be read says so.
func TestReadOnlyConnection(t *testing.T) {
	db := openGroups(t)
	if _, err := db.write.ExecContext(t.Context(), "PRAGMA query_only(1)"); err != nil {
		t.Fatal(err)
	}
	err := db.update(t.Context(), work(t.Context(), db, 1))
	if e := sdk.FromError(err); e == nil || e.Reason != "STORE_READ_ONLY" || e.Remedy == "" {
		t.Errorf("got %v", err)
	}
	if _, err := db.write.ExecContext(t.Context(), "PRAGMA query_only(0)"); err != nil {
		t.Fatal(err)
	}
	if err := db.update(t.Context(), work(t.Context(), db, 1)); err != nil {
		t.Errorf("writable again: %v", err)
	}
}
