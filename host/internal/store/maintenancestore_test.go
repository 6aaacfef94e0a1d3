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

// What happens to a request is told once.
func TestMaintenanceEvents(t *testing.T) {
	db, err := OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := &maintenance.Record{ID: "a", Subsystem: "disk", State: maintenance.Open}
	err = db.Maintenance().Update(t.Context(), func(tx maintenance.Tx) error {
		return tx.Put(t.Context(), r, maintenance.Change{ID: "a", Subsystem: "disk", Action: maintenance.Filed, By: "host", Why: "full"})
	})
	if err != nil {
		t.Fatal(err)
	}
	events, err := db.Events().After(t.Context(), 0, 10)
	if err != nil || len(events) != 1 || events[0].Kind != "maintenance.filed" || events[0].Subject != "maintenance/a" || events[0].Outcome != "success" {
		t.Errorf("%+v, %v", events, err)
	}
}
