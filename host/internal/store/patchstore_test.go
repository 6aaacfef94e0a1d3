package store_test

import (
	"path/filepath"
	"testing"

	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/store/storetest"
)

func TestPatchesSQLite(t *testing.T) {
	storetest.RunPatches(t, func(t *testing.T) patch.Store { return open(t, filepath.Join(t.TempDir(), "sop.db")).Patches() })
}

func TestPatchesMemory(t *testing.T) {
	storetest.RunPatches(t, func(t *testing.T) patch.Store {
		db, err := store.OpenMemory(t.Context())
		return closeLater(t, db, err).Patches()
	})
}
