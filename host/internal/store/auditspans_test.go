package store

import (
	"database/sql"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"pgregory.net/rapid"

	"github.com/sop-host/sop/host/internal/audit"
)

// A search finds what a pass over all records finds, whatever the clock did,
// across spans, restarts and what was archived.
func TestSearchFindsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sop.db")
	const n = 3*spanSize + 100
	var records []audit.Record
	for i := range n {
		at := time.Unix(int64(i-i%7*900), 0) // the clock goes back now and then
		records = append(records, audit.Record{Time: at, Actor: fmt.Sprint("a", i%3), Resource: fmt.Sprint("r", i*i%1500), Action: "x"})
	}
	var db *DB
	for i, sizes := 0, []int{1, 5, 700, 30, 1500, n}; i < n; sizes = sizes[1:] {
		if db != nil {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if db, err = Open(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		end := min(n, i+sizes[0])
		if err := db.Audit().Append(t.Context(), records[i:end]...); err != nil {
			t.Fatal(err)
		}
		i = end
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	count(t, db, "SELECT count(*) FROM audit_spans", 3)
	count(t, db, "SELECT max(last_seq) FROM audit_spans", 3*spanSize)
	rapid.Check(t, func(t *rapid.T) {
		f := audit.Filter{Oldest: rapid.Bool().Draw(t, "oldest"), Limit: rapid.IntRange(1, 50).Draw(t, "limit")}
		if rapid.Bool().Draw(t, "resource") {
			f.Resource = fmt.Sprint("r", rapid.IntRange(0, 1600).Draw(t, "number"))
		}
		if rapid.Bool().Draw(t, "since") {
			f.Since = time.Unix(int64(rapid.IntRange(-6000, n).Draw(t, "from")), 0)
		}
		if rapid.Bool().Draw(t, "until") {
			f.Until = time.Unix(int64(rapid.IntRange(-6000, n).Draw(t, "to")), 0)
		}
		if rapid.Bool().Draw(t, "after") {
			f.After = uint64(rapid.IntRange(0, n).Draw(t, "seq"))
		}
		var want, got []uint64
		for i := range records {
			r := records[i]
			r.Seq = uint64(i + 1)
			if f.Match(&r) {
				want = append(want, r.Seq)
			}
		}
		if !f.Oldest {
			slices.Reverse(want)
		}
		for range 4 { // pages
			page, err := db.Audit().List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Records {
				got = append(got, r.Seq)
			}
			if f.Token = page.Next; f.Token == "" {
				break
			}
		}
		want = want[:min(len(want), 4*f.Limit)]
		if !slices.Equal(got, want) {
			t.Fatalf("%+v finds %v, want %v", f, got, want)
		}
	})
}

// A log that was written by version 7 of the schema is taken over as it stands.
func TestAuditFormsTakenOver(t *testing.T) {
	write, open := olderDatabase(t, 7)
	var head audit.Head
	const n, bad = 2*spanSize + 10, 1500
	for i := range n {
		r := audit.Record{Actor: "a", Resource: fmt.Sprint(i), Outcome: audit.Success}
		attributes := ""
		if i%2 == 0 {
			r.Attributes, attributes = map[string]string{"k": "ü"}, `{"k":"ü"}`
		}
		audit.Seal(t.Context(), &head, &r)
		if r.Seq == bad {
			r.Actor = "edited"
		}
		_, err := write.ExecContext(t.Context(), "INSERT INTO audit_records VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
			int64(r.Seq), r.Time.UnixNano(), r.Actor, r.Action, r.Resource, string(r.Outcome), r.Reason, r.RequestID, r.TraceID, r.Token, attributes, r.PrevHash[:], r.Hash[:])
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := write.ExecContext(t.Context(), "INSERT INTO audit_head VALUES (1, $1, $2, $3)", int64(head.Size), head.Last[:], head.Edge())
	if err != nil {
		t.Fatal(err)
	}
	db := open()
	count(t, db, "SELECT count(*) FROM audit_records", n)
	count(t, db, "SELECT count(*) FROM audit_spans", 2)
	if err := db.Audit().Append(t.Context(), audit.Record{Actor: "b"}); err != nil {
		t.Error(err)
	}
	report, err := audit.VerifyStore(t.Context(), db.Audit(), nil)
	if err != nil || report.Fault == nil || report.Fault.Seq != bad || report.Fault.Kind != audit.Edited {
		t.Errorf("the record that was edited before: %+v, %v", report, err)
	}
}

// olderDatabase makes a database with the schema of an earlier version, to be
// written to. open closes it and opens it as a host of today does.
func olderDatabase(t *testing.T, version int64) (write *sql.DB, open func() *DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sop.db")
	if err := prepareFile(path); err != nil {
		t.Fatal(err)
	}
	write, err := openPatient(dsn(path, url.Values{}))
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(migrations, sqliteDialect.migrations)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(sqliteDialect.goose, write, files, goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(goMigrations()...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	return write, func() *DB {
		if err := write.Close(); err != nil {
			t.Fatal(err)
		}
		db, err := Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	}
}
