package main

import (
	"context"
	"encoding/json"
	"maps"
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
		full := map[string]any{"password": "correct horse"}
		maps.Copy(full, config)
		text, err := json.Marshal(full)
		if err != nil {
			return nil, err
		}
		p := &plugin{}
		return p, p.configure(context.Background(), sdk.NewConfig(text, stateDir))
	}
}

func TestConformance(t *testing.T) { plugintest.Backup(t, opener(nil)) }
