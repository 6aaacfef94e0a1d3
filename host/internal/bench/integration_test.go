package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/integration"
	"github.com/sop-host/sop/host/internal/sandbox"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// TestBenchIntegration compares replacing a few files, with their backup by the
// plugin before and the acknowledgement, and taking them back, with the writes
// and syncs that a durable save of as many files needs.
func TestBenchIntegration(t *testing.T) {
	wanted(t)
	client, root, floor := startBackup(t), t.TempDir(), t.TempDir()
	i := integration.New(integration.Options{})
	var all, alone, back, bare []time.Duration
	measure := func(into *[]time.Duration, do func() error) {
		began := time.Now()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		*into = append(*into, time.Since(began))
	}
	for round := range backupRounds {
		set, contents := new(sandbox.ChangeSet), make(map[string][]byte)
		save := &pluginv1.SaveRequest{Root: root}
		var floorContents [][]byte
		for n := range backupFiles {
			name := fmt.Sprint(n)
			was, now := make([]byte, backupSize), make([]byte, backupSize)
			copy(was, fmt.Sprintf("round %d file %d", round, n))
			copy(now, fmt.Sprintf("round %d file %d, changed", round, n))
			if err := durable(filepath.Join(root, name), was); err != nil {
				t.Fatal(err)
			}
			contents[name], floorContents, save.Paths = now, append(floorContents, now), append(save.Paths, name)
			set.Changes = append(set.Changes, sandbox.Change{
				Path: name, Op: sandbox.OpModify, Mode: 0o644, OldMode: 0o644, Size: backupSize, SHA256: sumOf(now), OldSHA256: sumOf(was),
			})
		}
		req := integration.Request{Root: root, ID: fmt.Sprintf("r%d", round), Set: set, Content: func(c sandbox.Change) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(contents[c.Path])), nil
		}}
		with := req
		with.Before = func(ctx context.Context) error {
			stream, err := client.Save(ctx, save)
			drain(t, stream.Recv, err)
			return nil
		}
		integrate := func(req integration.Request) func() error {
			return func() error { _, err := i.Integrate(t.Context(), req); return err }
		}
		rollback := func() error {
			_, err := i.Rollback(t.Context(), integration.RollbackRequest{Root: root, ID: req.ID})
			return err
		}
		measure(&all, integrate(with))
		measure(&back, rollback)
		measure(&alone, integrate(req))
		if err := i.Forget(t.Context(), root, req.ID); err != nil {
			t.Fatal(err)
		}
		measure(&bare, func() error { bareSave(t, floor, floorContents, false); return nil })
	}
	ratio := func(a []time.Duration) float64 { return float64(median(a)) / float64(median(bare)) }
	say(t, "back up and integrate 5 files, durable", ratio(all), "≤3×", "p50 %v (bare syncs of a save: %v)", median(all), median(bare))
	say(t, "integrate 5 files, durable", ratio(alone), "-", "p50 %v", median(alone))
	say(t, "roll 5 files back, durable", float64(median(back))/float64(median(all)), "≤1×", "p50 %v, against integration with its backup", median(back))
}
