package store_test

import (
	"path/filepath"
	"testing"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/store/storetest"
)

func TestBackupsSQLite(t *testing.T) {
	storetest.RunBackups(t, func(t *testing.T) backup.Store { return open(t, filepath.Join(t.TempDir(), "sop.db")).Backups() })
}

func TestBackupsMemory(t *testing.T) {
	storetest.RunBackups(t, func(t *testing.T) backup.Store {
		db, err := store.OpenMemory(t.Context())
		return closeLater(t, db, err).Backups()
	})
}
