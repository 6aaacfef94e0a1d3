package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
)

// inWriter runs fn on the statements of the writing connection.
func inWriter(t *testing.T, db *DB, fn func(s *statements)) {
	t.Helper()
	conn, err := db.write.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Raw(func(c any) error {
		fn(c.(patientConn).statements)
		return nil
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
}

// A text that is run while its rows are being read gets a statement of its own.
func TestStatementWithinItself(t *testing.T) {
	db := openGroups(t)
	const text = "SELECT n FROM work WHERE n >= $1 ORDER BY n"
	numbers := func(scan func(...any) error) (n int, err error) { return n, scan(&n) }
	err := db.update(t.Context(), func(tx *sql.Tx) error {
		for n := range 3 {
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO work (n) VALUES ($1)", n); err != nil {
				return err
			}
		}
		outer, err := collect(t.Context(), tx, func(scan func(...any) error) (int, error) {
			n, err := numbers(scan)
			if err != nil {
				return 0, err
			}
			inner, err := collect(t.Context(), tx, numbers, text, n)
			if len(inner) != 3-n {
				t.Errorf("from %d: %v", n, inner)
			}
			return n, err
		}, text, 0)
		if len(outer) != 3 {
			t.Errorf("outer: %v", outer)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	inWriter(t, db, func(s *statements) {
		if kept := s.kept[text]; kept == nil || kept.busy {
			t.Errorf("kept: %+v", kept)
		}
	})
}

// What is kept is bounded, outlives a change of the schema, and forgets the
// arguments of the run before and its failure.
func TestStatementsAreKept(t *testing.T) {
	db := openGroups(t)
	ctx := context.Background()
	for i := range 3 * maxStatements {
		if _, err := db.write.ExecContext(ctx, fmt.Sprintf("DELETE FROM work WHERE n = %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	const insert = "INSERT INTO work (n) VALUES ($1)"
	for _, tt := range []struct {
		n  any
		ok bool
	}{{1, true}, {1, false}, {nil, false}, {2, true}} {
		if _, err := db.write.ExecContext(ctx, insert, tt.n); (err == nil) != tt.ok {
			t.Errorf("%v: %v", tt.n, err)
		}
	}
	if _, err := db.write.ExecContext(ctx, insert); err == nil {
		t.Error("a run without arguments took those of the run before")
	}
	if _, err := db.write.ExecContext(ctx, "ALTER TABLE work ADD COLUMN more TEXT NOT NULL DEFAULT 'x'"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.write.ExecContext(ctx, insert, 3); err != nil {
		t.Error(err)
	}
	count(t, db, "SELECT count(*) FROM work WHERE more = 'x'", 3)
	inWriter(t, db, func(s *statements) {
		if len(s.kept) > maxStatements || s.kept[insert] == nil {
			t.Errorf("%d statements are kept, the last among them: %v", len(s.kept), s.kept[insert] != nil)
		}
		for text := range s.kept {
			if !isOften(text) {
				t.Errorf("%q is kept", text)
			}
		}
	})
}
