package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/backup"
)

// OpenBackup opens the plugin under test on a lasting directory, which holds
// its whole state. It is called again and again for the same directory, by this
// process and by others.
type OpenBackup func(stateDir string) (backup.Backup, error)

// Backup is the conformance suite of backup plugins: what the host relies on,
// under the faults that it must survive. Call it first in a test of its own:
// the suite starts the test binary anew to have processes that it can kill.
//
//	func TestConformance(t *testing.T) { plugintest.Backup(t, open) }
//
// With SOP_TEST_LONG set it does more of the same. What needs root is skipped
// for others, with the reason.
func Backup(t *testing.T, open OpenBackup) {
	if job := os.Getenv(backupJobEnv); job != "" {
		os.Exit(work(job, open))
	}
	for _, test := range []struct {
		name string
		run  func(*backupTest)
	}{
		{"Fidelity", (*backupTest).fidelity},
		{"OddNames", (*backupTest).oddNames},
		{"List", (*backupTest).list},
		{"Pin", (*backupTest).pin},
		{"SinglePaths", (*backupTest).singlePaths},
		{"Excluded", (*backupTest).excluded},
		{"Contents", (*backupTest).contents},
		{"Traversal", (*backupTest).traversal},
		{"PlantedLinks", (*backupTest).plantedLinks},
		{"Overwrite", (*backupTest).overwrite},
		{"NoOverwrite", (*backupTest).noOverwrite},
		{"SameSizeSameTime", (*backupTest).sameSizeSameTime},
		{"MissingPath", (*backupTest).missingPath},
		{"Unreadable", (*backupTest).unreadable},
		{"ChangesWhileRead", (*backupTest).changesWhileRead},
		{"Cancel", (*backupTest).cancel},
		{"Damage", (*backupTest).damage},
		{"ConcurrentWriters", (*backupTest).concurrentWriters},
		{"DiskFull", (*backupTest).diskFull},
		{"KilledSave", (*backupTest).killedSave},
		{"KilledRestore", (*backupTest).killedRestore},
		{"KilledPrune", (*backupTest).killedPrune},
		{"PowerCut", (*backupTest).powerCut},
		{"TinyFiles", (*backupTest).tinyFiles},
		{"Sparse", (*backupTest).sparse},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &backupTest{T: t, suite: parentName(t), open: open, state: t.TempDir(), root: t.TempDir()}
			b.client = b.reopen()
			test.run(b)
		})
	}
}

// backupTest is one test of the suite, with a repository and a tree of its own.
type backupTest struct {
	*testing.T
	suite  string // the test that the suite was called from
	open   OpenBackup
	state  string
	root   string
	client pluginv1.BackupClient
}

// reopen opens the plugin as a new start of it would.
func (b *backupTest) reopen() pluginv1.BackupClient {
	b.Helper()
	impl, err := b.open(b.state)
	if err != nil {
		b.Fatalf("open the plugin: %v", err)
	}
	return serve(b.T, backup.Kind, impl)
}

// save saves beneath the root and expects that it works.
func (b *backupTest) save(paths ...string) *pluginv1.Snapshot {
	b.Helper()
	s, err := saveOver(b.Context(), b.client, &pluginv1.SaveRequest{Root: b.root, Paths: paths})
	if err != nil {
		b.Fatalf("save: %v", err)
	}
	return s
}

// saveAll saves everything, and expects that nothing failed.
func (b *backupTest) saveAll() *pluginv1.Snapshot {
	b.Helper()
	s := b.save()
	if len(s.GetFailures()) > 0 {
		b.Fatalf("the snapshot has failures: %v", s.GetFailures())
	}
	return s
}

// restored restores a snapshot into a new directory and returns it.
func (b *backupTest) restored(id string) string {
	b.Helper()
	target := b.TempDir()
	b.removable(target)
	result, err := restoreOver(b.Context(), b.client, &pluginv1.RestoreRequest{SnapshotId: id, Target: target})
	if err != nil {
		b.Fatalf("restore: %v", err)
	}
	if len(result.GetFailures()) > 0 || len(result.GetWarnings()) > 0 {
		b.Fatalf("restore: failures %v, warnings %v", result.GetFailures(), result.GetWarnings())
	}
	return target
}

// verify verifies everything.
func (b *backupTest) verify(data bool) *pluginv1.VerifyResult {
	b.Helper()
	result, err := verifyOver(b.Context(), b.client, &pluginv1.VerifyRequest{Data: data})
	if err != nil {
		b.Fatalf("verify: %v", err)
	}
	return result
}

// whole expects that the repository is intact.
func (b *backupTest) whole() {
	b.Helper()
	if result := b.verify(true); !result.GetIntact() {
		b.Fatalf("the repository is damaged: %v %v", result.GetDamaged(), result.GetFailures())
	}
}

// snapshots lists all.
func (b *backupTest) snapshots() (all []*pluginv1.Snapshot) {
	b.Helper()
	for token := ""; ; {
		resp, err := b.client.List(b.Context(), &pluginv1.ListRequest{PageToken: token, PageSize: 50})
		if err != nil {
			b.Fatalf("list: %v", err)
		}
		all = append(all, resp.GetSnapshots()...)
		if token = resp.GetNextPageToken(); token == "" {
			return all
		}
	}
}

var errNoResult = errors.New("the stream ended without a result")

// saveOver calls Save and waits for the snapshot.
func saveOver(ctx context.Context, c pluginv1.BackupClient, req *pluginv1.SaveRequest) (*pluginv1.Snapshot, error) {
	stream, err := c.Save(ctx, req)
	if err != nil {
		return nil, err
	}
	return last(stream.Recv, (*pluginv1.SaveResponse).GetSnapshot)
}

func verifyOver(ctx context.Context, c pluginv1.BackupClient, req *pluginv1.VerifyRequest) (*pluginv1.VerifyResult, error) {
	stream, err := c.Verify(ctx, req)
	if err != nil {
		return nil, err
	}
	return last(stream.Recv, (*pluginv1.VerifyResponse).GetResult)
}

func restoreOver(ctx context.Context, c pluginv1.BackupClient, req *pluginv1.RestoreRequest) (*pluginv1.RestoreResult, error) {
	stream, err := c.Restore(ctx, req)
	if err != nil {
		return nil, err
	}
	return last(stream.Recv, (*pluginv1.RestoreResponse).GetResult)
}

// last reads a stream to its end and returns the result that it carried.
func last[R, T any](recv func() (*R, error), get func(*R) *T) (result *T, err error) {
	for {
		resp, err := recv()
		if errors.Is(err, io.EOF) && result == nil {
			return nil, errNoResult
		}
		if errors.Is(err, io.EOF) {
			return result, nil
		}
		if err != nil {
			return nil, fmt.Errorf("stream: %w", err)
		}
		if r := get(resp); r != nil {
			result = r
		}
	}
}
