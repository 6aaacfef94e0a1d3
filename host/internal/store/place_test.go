package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/sdk"
)

// TestFilesThatAreGone takes files away from an open database: nothing is written that
// nobody will find, and the database goes on when they are back.
func TestFilesThatAreGone(t *testing.T) {
	for name, take := range map[string]func(path, aside string) error{
		"moved": func(path, aside string) error {
			return errors.Join(os.Rename(path, aside), os.Rename(path+"-wal", aside+"-wal"), os.Rename(path+"-shm", aside+"-shm"))
		},
		"log moved": func(path, aside string) error { return os.Rename(path+"-wal", aside+"-wal") },
		"replaced": func(path, aside string) error {
			return errors.Join(os.Rename(path, aside), os.WriteFile(path, nil, 0o600))
		},
		"directory gone": func(path, aside string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".aside") },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state", "sop.db")
			aside := filepath.Join(filepath.Dir(path), "aside")
			db := open(t, path)
			record := func() error { return db.Audit().Append(t.Context(), audit.Record{Actor: "a"}) }
			if err := errors.Join(record(), db.Refused()); err != nil {
				t.Fatal(err)
			}
			if err := take(path, aside); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{"refused": db.Refused(), "append": record(), "writable": db.Writable(t.Context())} {
				if e := sdk.FromError(err); e == nil || e.Reason != "STORE_GONE" {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := putBack(path, aside); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(record(), db.Refused()); err != nil {
				t.Errorf("the files are back: %v", err)
			}
			count(t, db, 2)
		})
	}
}

// putBack moves back what a case of TestFilesThatAreGone has moved aside.
func putBack(path, aside string) error {
	dir := filepath.Dir(path)
	if err := os.Rename(dir+".aside", dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(aside+suffix, path+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// count compares how many records the log has.
func count(t *testing.T, db *store.DB, want uint64) {
	t.Helper()
	if head, err := db.Audit().Head(t.Context()); err != nil || head.Size != want {
		t.Errorf("%d records, %v, want %d", head.Size, err, want)
	}
}
