package store

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
)

// The log is copied while a writer has its turn, and often enough.
func TestCheckpointBesideWriters(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for range 10 {
		if err := db.Audit().Append(t.Context(), audit.Record{Actor: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = db.update(ctx, func(*sql.Tx) error {
		pages, copied, err := db.copying.copy(ctx)
		if pages == 0 || copied != pages {
			t.Errorf("%d of %d pages were copied", copied, pages)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	c := &checkpointer{due: make(chan struct{}, 1)}
	for range 3 { // nobody listens, and nobody is held up
		c.wrote(checkpointTurns - 1)
		c.wrote(1)
	}
	if len(c.due) != 1 || c.turns != 0 {
		t.Errorf("%d signals, %d turns", len(c.due), c.turns)
	}
}
