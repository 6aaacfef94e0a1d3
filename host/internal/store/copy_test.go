package store_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/backup"
)

// A copy that is made while others write is whole, holds what was acknowledged
// before it, and can be opened as any database.
func TestCopyUnderLoad(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "sop.db"))
	ctx, cancel := context.WithCancel(t.Context())
	put := func(id string) error {
		return db.Backups().Update(t.Context(), func(tx backup.Tx) error {
			if err := tx.Put(t.Context(), &backup.Snapshot{ID: id, State: backup.Kept, CreatedAt: time.Unix(1, 0), ChangedAt: time.Unix(1, 0)}); err != nil {
				return err
			}
			return tx.Record(t.Context(), backup.Deed{Action: "save", By: "me", Snapshot: id})
		})
	}
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := put(string(rune('a'+i)) + "-" + string(rune('0'+n%10))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 5 {
		mark := "mark" + string(rune('0'+i))
		if err := put(mark); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "copy.db")
		if err := db.CopyTo(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, path).Backups().Get(t.Context(), mark); err != nil {
			t.Errorf("what was acknowledged before the copy is not in it: %v", err)
		}
		if err := db.CopyTo(t.Context(), path); err == nil {
			t.Error("a file that was there was written over")
		}
	}
	cancel()
	writers.Wait()
}
