package main

import (
	"context"
	"encoding/json"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
	"github.com/sop-host/sop/sdk/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opener opens the plugin with a configuration.
func opener(config map[string]any) plugintest.OpenBackup {
	return func(stateDir string) (backup.Backup, error) {
		text, err := json.Marshal(config)
		if err != nil {
			return nil, err
		}
		b := &files{}
		return b, b.configure(context.Background(), sdk.NewConfig(text, stateDir))
	}
}

func TestConformance(t *testing.T) { plugintest.Backup(t, opener(nil)) }

func TestConformanceCompressed(t *testing.T) {
	if os.Getenv("SOP_TEST_LONG") == "" && os.Getenv("SOP_PLUGINTEST_BACKUP") == "" {
		t.Skip("the same once more with compression: set SOP_TEST_LONG")
	}
	plugintest.Backup(t, opener(map[string]any{"compression": "gzip"}))
}
