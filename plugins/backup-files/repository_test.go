package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// fixture is a plugin with a tree to save.
type fixture struct {
	*testing.T
	*files
	root, repo string
}

func newFixture(t *testing.T, config map[string]any) *fixture {
	t.Helper()
	state := t.TempDir()
	impl, err := opener(config)(state)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t, impl.(*files), t.TempDir(), filepath.Join(state, "repository")}
}

// save writes a file with the content and saves it.
func (f *fixture) save(content string) *pluginv1.Snapshot {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.root, "file"), []byte(content), 0o600); err != nil {
		f.Fatal(err)
	}
	s, err := f.Save(f.Context(), &pluginv1.SaveRequest{Root: f.root}, nil)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

func (f *fixture) damage() (names []string) {
	f.Helper()
	result, err := f.Verify(f.Context(), &pluginv1.VerifyRequest{Data: true}, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, d := range result.GetDamaged() {
		names = append(names, filepath.Base(d.GetName())+": "+d.GetMessage())
	}
	return names
}

func (f *fixture) ids() (ids []string) {
	f.Helper()
	l, err := f.service.Load().repo.list()
	if err != nil {
		f.Fatal(err)
	}
	return l.live
}

func count(t *testing.T, pattern ...string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(pattern...))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// A manifest that was rewritten with a right checksum of its own, or taken away,
// shows, because the next one and the head name it by its hash.
func TestTamperingShows(t *testing.T) {
	for name, tamper := range map[string]func(f *fixture, ids []string) error{
		"rewritten": func(f *fixture, ids []string) error {
			m, err := f.service.Load().repo.load(ids[1])
			if err != nil {
				return err
			}
			m.entries[0].Mode = 0o777
			text, err := m.encode()
			return errors.Join(err, os.WriteFile(filepath.Join(f.repo, manifestName(ids[1])), text, 0o600))
		},
		"taken away": func(f *fixture, ids []string) error { return os.Remove(filepath.Join(f.repo, manifestName(ids[1]))) },
		"newest taken away": func(f *fixture, ids []string) error {
			return os.Remove(filepath.Join(f.repo, manifestName(ids[2])))
		},
		"put in": func(f *fixture, ids []string) error {
			m, err := f.service.Load().repo.load(ids[0])
			if err != nil {
				return err
			}
			m.ID = fmt.Sprintf("%012d-%s", 1, "00000000")
			text, err := m.encode()
			return errors.Join(err, os.WriteFile(filepath.Join(f.repo, manifestName(m.ID)), text, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			for _, content := range []string{"one", "two", "three"} {
				f.save(content)
			}
			ids := f.ids()
			if d := f.damage(); d != nil {
				t.Fatalf("before: %v", d)
			}
			if err := tamper(f, ids); err != nil {
				t.Fatal(err)
			}
			if len(f.damage()) == 0 {
				t.Error("it does not show")
			}
			f.save("four")
			if len(f.damage()) == 0 {
				t.Error("after a further snapshot it does not show any more")
			}
		})
	}
}

// The loss of a snapshot can be accepted by deleting it; then all is well again.
func TestLossIsAccepted(t *testing.T) {
	f := newFixture(t, nil)
	for _, content := range []string{"one", "two", "three"} {
		f.save(content)
	}
	ids := f.ids()
	for _, lost := range []string{ids[1], ids[2]} {
		if err := os.Remove(filepath.Join(f.repo, manifestName(lost))); err != nil {
			t.Fatal(err)
		}
		if len(f.damage()) == 0 {
			t.Fatal("the loss does not show")
		}
		if _, err := f.Delete(t.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{lost}}); err != nil {
			t.Fatal(err)
		}
		if d := f.damage(); d != nil {
			t.Errorf("after the loss was accepted: %v", d)
		}
	}
}

// However many snapshots come and go, few stand-ins remain.
func TestDeletedSnapshotsAreMerged(t *testing.T) {
	f := newFixture(t, nil)
	f.save("pinned")
	if _, err := f.Pin(t.Context(), &pluginv1.PinRequest{SnapshotId: f.ids()[0], Pinned: true}); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		f.save(fmt.Sprint(i))
		ids := f.ids()
		if i%3 == 0 {
			continue
		}
		if _, err := f.Delete(t.Context(), &pluginv1.DeleteRequest{SnapshotIds: ids[len(ids)-1:]}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range f.ids()[1:] {
		if _, err := f.Delete(t.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{id}}); err != nil {
			t.Fatal(err)
		}
		if d := f.damage(); d != nil {
			t.Fatalf("after %s was deleted: %v", id, d)
		}
	}
	if n := count(t, f.repo, snapshotDir, "*"+goneSuffix); n != 1 {
		t.Errorf("%d files stand for deleted snapshots, want 1", n)
	}
	if n := count(t, f.repo, objectsDir, "*"); n != 1 {
		t.Errorf("%d objects are left, want that of the pinned snapshot", n)
	}
}

// An object that was damaged is written anew when its content is saved again.
func TestSaveHeals(t *testing.T) {
	f := newFixture(t, nil)
	f.save("content")
	object := filepath.Join(f.repo, objectsDir, string(digestOf([]byte("content"))))
	if err := os.WriteFile(object, []byte("c0ntent"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := f.damage(); len(d) != 1 || !strings.Contains(d[0], string(digestOf([]byte("content")))) {
		t.Fatalf("damage is %v", d)
	}
	f.save("content")
	if d := f.damage(); d != nil {
		t.Errorf("after it was saved again: %v", d)
	}
}

// What a killed process left is gone after the next start.
func TestLeftoversAreSwept(t *testing.T) {
	f := newFixture(t, nil)
	f.save("content")
	for _, name := range []string{filepath.Join(tempDir, token(16)), filepath.Join(objectsDir, string(digestOf([]byte("orphan"))))} {
		if err := os.WriteFile(filepath.Join(f.repo, name), []byte("orphan"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := opener(nil)(filepath.Dir(f.repo)); err != nil {
		t.Fatal(err)
	}
	if n := count(t, f.repo, tempDir, "*"); n != 0 {
		t.Errorf("%d temporary files are left", n)
	}
	var told []string
	resp, err := f.Prune(t.Context(), &pluginv1.PruneRequest{}, func(p *pluginv1.BackupProgress) error {
		told = append(told, fmt.Sprint(p.GetFiles(), " of ", p.GetBytes()))
		return nil
	})
	if err != nil || resp.GetFreedBytes() != 6 || count(t, f.repo, objectsDir, "*") != 1 || !slices.Equal(told, []string{"1 of 6"}) {
		t.Errorf("pruning freed %v, %v, and told %v", resp, err, told)
	}
}

// While a manifest cannot be read, nobody knows which objects it needs.
func TestPruneFreesNothingWhileManifestIsDamaged(t *testing.T) {
	f := newFixture(t, nil)
	f.save("one")
	f.save("two")
	if err := os.Truncate(filepath.Join(f.repo, manifestName(f.ids()[0])), 10); err != nil {
		t.Fatal(err)
	}
	resp, err := f.Prune(t.Context(), &pluginv1.PruneRequest{}, nil)
	if err != nil || resp.GetNote() == "" || len(resp.GetDeletedIds()) > 0 || count(t, f.repo, objectsDir, "*") != 2 {
		t.Errorf("pruned %v, %v", resp, err)
	}
	if _, err := f.Delete(t.Context(), &pluginv1.DeleteRequest{SnapshotIds: f.ids()[:1]}); err != nil {
		t.Fatal(err)
	}
	if n := count(t, f.repo, objectsDir, "*"); n != 1 {
		t.Errorf("%d objects are left after the damaged snapshot was given up", n)
	}
}

// A repository within the tree is not saved into itself, and that is said.
func TestRepositoryIsExcluded(t *testing.T) {
	root := t.TempDir()
	impl, err := opener(map[string]any{"directory": filepath.Join(root, ".sop/repo")})(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := impl.(*files)
	s, err := b.Save(t.Context(), &pluginv1.SaveRequest{Root: root}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.service.Load().repo.load(s.GetId())
	if err != nil || !slices.Equal(m.Excluded, []tree.Path{".sop/repo"}) || len(m.entries) != 1 {
		t.Errorf("%v, excluded %v, entries %v", err, m.Excluded, m.entries)
	}
}

func TestConfigurationIsRefused(t *testing.T) {
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	later := t.TempDir()
	if err := os.WriteFile(filepath.Join(later, formatFile), []byte(`{"format":"sop-backup-files","version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for attribute, value := range map[string][]any{
		"directory": {"relative", foreign, later, "/dev/null/x"}, "compression": {"lzma"}, "keep_last": {-1}, "keep_within": {"soon", "-1h"},
		"min_free": {"much", "1"}, "max_file_size": {"-1B"}, "max_files": {0}, "max_size": {"99999999TiB"},
	} {
		for _, v := range value {
			_, err := opener(map[string]any{attribute: v})(t.TempDir())
			if err == nil || !strings.Contains(err.Error(), attribute) {
				t.Errorf("%s = %v: %v", attribute, v, err)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	f := newFixture(t, map[string]any{"max_file_size": "4B", "max_size": "64KiB", "max_files": 3})
	if s := f.save("more than four"); len(s.GetFailures()) != 1 {
		t.Errorf("failures are %v", s.GetFailures())
	}
	refused := func(why string) {
		t.Helper()
		_, err := f.Save(t.Context(), &pluginv1.SaveRequest{Root: f.root}, nil)
		if e := sdk.FromError(err); e == nil || e.Code != codes.ResourceExhausted || e.Reason != why {
			t.Errorf("%v, want %s", err, why)
		}
	}
	if err := os.WriteFile(filepath.Join(f.root, "large"), make([]byte, 128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("SNAPSHOT_TOO_LARGE")
	for i := range 3 {
		if err := os.Mkdir(filepath.Join(f.root, fmt.Sprint(i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	refused("TOO_MANY_FILES")
}

// The clock may jump: snapshots keep their order, and pruning deletes neither
// what is pinned nor the last good one.
func TestClockJumps(t *testing.T) {
	f := newFixture(t, map[string]any{"keep_last": 0, "keep_within": "24h"})
	at := time.Now()
	f.service.Load().now = func() time.Time { return at }
	f.save("now")
	if _, err := f.Pin(t.Context(), &pluginv1.PinRequest{SnapshotId: f.ids()[0], Pinned: true}); err != nil {
		t.Fatal(err)
	}
	at = at.AddDate(1, 0, 0)
	f.save("a year ahead")
	at = at.AddDate(-2, 0, 0)
	f.save("a year back")
	at = at.AddDate(5, 0, 0)
	want := f.ids()
	resp, err := f.Prune(t.Context(), &pluginv1.PruneRequest{DryRun: true}, nil)
	if err != nil || !slices.Equal(resp.GetDeletedIds(), want[1:2]) || len(f.ids()) != 3 {
		t.Errorf("would prune %v, %v; want %v", resp.GetDeletedIds(), err, want[1:2])
	}
	if _, err := f.Prune(t.Context(), &pluginv1.PruneRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	list, err := f.List(t.Context(), &pluginv1.ListRequest{})
	if err != nil || len(list.GetSnapshots()) != 2 || list.GetSnapshots()[0].GetId() != want[2] || !list.GetSnapshots()[1].GetPinned() {
		t.Errorf("left are %v, %v", list, err)
	}
	if d := f.damage(); d != nil {
		t.Error(d)
	}
}

// Whoever must wait for a lock learns who holds it, and can give up.
func TestBusy(t *testing.T) {
	f := newFixture(t, nil)
	repo := f.service.Load().repo
	l, err := repo.lock(t.Context(), usageLock, 2) // LOCK_EX
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = f.Save(ctx, &pluginv1.SaveRequest{Root: f.root}, nil)
	if e := sdk.FromError(err); e == nil || e.Reason != "REPOSITORY_BUSY" || !strings.Contains(e.Message, fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("%v", err)
	}
	l.release()
	f.save("free again")
}
