package store

import (
	"testing"

	"github.com/sop-host/sop/host/internal/maintenance"
	"github.com/sop-host/sop/host/internal/store/storetest"
)

func TestMaintenanceStore(t *testing.T) {
	storetest.RunMaintenance(t, func(t *testing.T) maintenance.Store {
		db, err := OpenMemory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db.Maintenance()
	})
}
