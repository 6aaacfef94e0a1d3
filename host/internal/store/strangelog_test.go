package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
)

// leave copies the files of an open database, as a host leaves them that is killed,
// to where another may open them.
func leave(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		content, err := os.ReadFile(from + suffix)
		if err != nil || suffix == "-wal" && len(content) == 0 {
			t.Fatalf("%d bytes: %v", len(content), err)
		}
		if err := os.WriteFile(to+suffix, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// records are how many a database has.
func records(t *testing.T, db *store.DB) uint64 {
	t.Helper()
	head, err := db.Audit().Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Examine(t.Context()); err != nil {
		t.Error(err)
	}
	return head.Size
}

// A copy that is put back over the files of a host that was killed is what it was
// when it was made: the log of the other is not taken for its own. Its own is.
func TestRestoredOverAKilledHost(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	add := func(db *store.DB, n int) {
		t.Helper()
		for range n {
			if err := db.Audit().Append(t.Context(), audit.Record{Actor: strings.Repeat("a", 3000), Action: "x.y"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	db := open(t, path("first.db"))
	add(db, 3)
	if err := db.CopyTo(t.Context(), path("copy.db")); err != nil {
		t.Fatal(err)
	}
	add(db, 40)
	leave(t, path("first.db"), path("sop.db"))
	restored, err := os.ReadFile(path("copy.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("sop.db"), restored, 0o600); err != nil { // in place, as cp does
		t.Fatal(err)
	}

	looked, err := store.OpenReadOnly(t.Context(), path("sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	if n := records(t, looked); n != 3 {
		t.Errorf("%d records are read", n)
	}
	if err := looked.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path("sop.db-wal")); err != nil || info.Size() == 0 {
		t.Errorf("who only looks has changed the log: %v", err)
	}

	db = open(t, path("sop.db"))
	if n := records(t, db); n != 3 || db.LogAside() != path("sop.db-wal.aside") {
		t.Errorf("%d records were restored, the log of the other lies at %q", n, db.LogAside())
	}
	if info, err := os.Stat(db.LogAside()); err != nil || info.Size() == 0 {
		t.Errorf("the log of the other: %v", err)
	}

	add(db, 2)
	leave(t, path("sop.db"), path("next.db")) // it has a log of its own by now
	db = open(t, path("next.db"))
	if n := records(t, db); n != 5 || db.LogAside() != "" {
		t.Errorf("%d records after it was killed, its log lies at %q", n, db.LogAside())
	}
}
