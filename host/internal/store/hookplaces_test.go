package store

import (
	"path/filepath"
	"testing"
)

// How far a hook has come outlives the database's being closed.
func TestHookPlaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sop.db")
	want := func(db *DB, name string, at int64, known bool) {
		t.Helper()
		got, found, err := db.HookPlaces().Place(t.Context(), name)
		if err != nil || got != at || found != known {
			t.Errorf("%s: %d, %v, %v", name, got, found, err)
		}
	}
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	want(db, "a", 0, false)
	for _, at := range []int64{0, 7, 9} {
		if err := db.HookPlaces().SetPlace(t.Context(), "a", at); err != nil {
			t.Fatal(err)
		}
		want(db, "a", at, true)
	}
	want(db, "b", 0, false)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	want(db, "a", 9, true)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
