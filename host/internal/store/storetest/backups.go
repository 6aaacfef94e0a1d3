package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/sdk"
)

// RunBackups runs the suite of backup stores. open returns an empty store, and
// closes it when t ends.
func RunBackups(t *testing.T, open func(t *testing.T) backup.Store) {
	for name, test := range map[string]func(*testing.T, backup.Store){
		"RoundTrip": testBackupRoundTrip,
		"Rollback":  testBackupRollback,
		"Names":     testBackupNames,
		"List":      testBackupList,
		"Seen":      testBackupSeen,
		"Runs":      testBackupRuns,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func makeBackup(id string) *backup.Snapshot {
	return &backup.Snapshot{
		ID: id, Plugin: "files", Ref: "ref-" + id, Workspace: "w", Root: "/not \xff utf-8", Paths: []string{"a", "b \xfe"}, Excluded: []string{".sop"},
		Reason: backup.ForIntegration, Task: "task", Patch: "patch", Schedule: "nightly", By: "me", CreatedAt: epoch, Files: 3, Bytes: 4, Stored: 5,
		Failures: []backup.PathFailure{{Path: "bad \xff", Message: "it is closed"}}, Failed: 7, Manifest: []byte{1, 0, 0xff}, Pinned: true,
		State: backup.Kept, Why: "so", ChangedAt: epoch.Add(1), StructureAt: epoch.Add(2), DataAt: epoch.Add(3),
	}
}

func putBackups(t *testing.T, s backup.Store, all ...*backup.Snapshot) {
	t.Helper()
	err := s.Update(t.Context(), func(tx backup.Tx) error {
		for _, b := range all {
			if err := errors.Join(tx.Put(t.Context(), b), tx.Record(t.Context(), backup.Deed{At: epoch, Action: "save", By: "me", Snapshot: b.ID})); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func testBackupRoundTrip(t *testing.T, s backup.Store) {
	full, bare := makeBackup("one"), &backup.Snapshot{ID: "two", State: backup.Kept, CreatedAt: epoch, ChangedAt: epoch}
	putBackups(t, s, full, bare)
	for _, want := range []*backup.Snapshot{full, bare} {
		if got, err := s.Get(t.Context(), want.ID); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("stored\n%+v, got\n%+v, %v", want, got, err)
		}
	}
	full.State, full.Pinned, full.Paths = backup.Lost, false, nil
	putBackups(t, s, full) // replaced
	if got, err := s.Get(t.Context(), "one"); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("stored\n%+v, got\n%+v, %v", full, got, err)
	}
}

func testBackupRollback(t *testing.T, s backup.Store) {
	failed := errors.New("failed")
	err := s.Update(t.Context(), func(tx backup.Tx) error {
		return errors.Join(tx.Put(t.Context(), makeBackup("one")), tx.PutRun(t.Context(), &backup.Run{ID: "r"}), failed)
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Get(t.Context(), "one"); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
	if runs, err := s.LastRuns(t.Context()); len(runs) != 0 || err != nil {
		t.Errorf("its run is there: %v, %v", runs, err)
	}
}

func testBackupNames(t *testing.T, s backup.Store) {
	putBackups(t, s, makeBackup("abc1"), makeBackup("abc2"), makeBackup("b"))
	for ref, want := range map[string]error{"": backup.ErrNotFound, "x": backup.ErrNotFound, "abc": backup.ErrAmbiguous, "abc1": nil, "b": nil} {
		if _, err := s.Get(t.Context(), ref); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func testBackupList(t *testing.T, s backup.Store) {
	for i := range 7 {
		b := makeBackup(fmt.Sprint("b", i))
		b.CreatedAt = epoch.Add(time.Duration(i))
		switch i {
		case 0:
			b.Patch = ""
		case 1:
			b.State = backup.Deleted
		case 2:
			b.Plugin = "other"
		case 3:
			b.StructureAt = time.Time{}
		}
		putBackups(t, s, b)
	}
	for name, tt := range map[string]struct {
		filter backup.Filter
		want   int
	}{
		"all":       {backup.Filter{}, 7},
		"patch":     {backup.Filter{Patch: "patch"}, 6},
		"kept":      {backup.Filter{States: []backup.State{backup.Kept}}, 6},
		"plugin":    {backup.Filter{Plugin: "other"}, 1},
		"workspace": {backup.Filter{Workspace: "w", Task: "task", Schedule: "nightly"}, 7},
		"nobody's":  {backup.Filter{Workspace: "v"}, 0},
	} {
		var got []string
		for tt.filter.Limit = 2; ; {
			page, err := s.List(t.Context(), tt.filter)
			if err != nil || len(page.Snapshots) > 2 {
				t.Fatalf("%s: %+v, %v", name, page, err)
			}
			for _, b := range page.Snapshots {
				got = append(got, b.ID)
			}
			if tt.filter.Token = page.Next; page.Next == "" {
				break
			}
		}
		sorted := slices.Clone(got)
		slices.Sort(sorted)
		slices.Reverse(sorted)
		if len(got) != tt.want || !slices.Equal(got, sorted) {
			t.Errorf("%s: %v, want %d, latest first", name, got, tt.want)
		}
	}
	if _, err := s.List(t.Context(), backup.Filter{Token: "!"}); sdk.FromError(err).Reason != "PAGE_TOKEN" {
		t.Errorf("page token: %v", err)
	}
}

func testBackupSeen(t *testing.T, s backup.Store) {
	gone := makeBackup("gone")
	gone.State = backup.Deleted
	putBackups(t, s, makeBackup("one"), makeBackup("two"), gone)
	err := s.Update(t.Context(), func(tx backup.Tx) error {
		all, err := tx.Of(t.Context(), "files")
		if len(all) != 2 {
			t.Errorf("there are %d, want those that are not deleted", len(all))
		}
		return errors.Join(err, tx.Seen(t.Context(), []string{"one"}, false, epoch.Add(time.Hour)), tx.Seen(t.Context(), []string{"two"}, true, epoch.Add(time.Hour)))
	})
	if err != nil {
		t.Fatal(err)
	}
	one, err := s.Get(t.Context(), "one")
	two, err2 := s.Get(t.Context(), "two")
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if later := epoch.Add(time.Hour); !one.StructureAt.Equal(later) || one.DataAt.Equal(later) || !two.DataAt.Equal(later) {
		t.Errorf("%+v, %+v", one, two)
	}
}

func testBackupRuns(t *testing.T, s backup.Store) {
	put := func(id string, work backup.Work, start int, reason string, ended bool) {
		t.Helper()
		r := &backup.Run{ID: id, Schedule: "nightly", Work: work, Plugin: "files", Snapshot: "s", StartedAt: epoch.Add(time.Duration(start) * time.Second), Reason: reason, Message: "m"}
		if ended {
			r.EndedAt = r.StartedAt.Add(time.Second)
		}
		if err := s.Update(t.Context(), func(tx backup.Tx) error { return tx.PutRun(t.Context(), r) }); err != nil {
			t.Fatal(err)
		}
	}
	put("ok-old", backup.Save, 0, "", true)
	put("ok", backup.Save, 1, "", true)
	for i := range 150 {
		put(fmt.Sprint("failed", i), backup.Save, 2+i, "NO_SPACE", true)
	}
	put("running", backup.Save, 200, "", false)
	put("verified", backup.Structure, 3, "", true)
	runs, err := s.LastRuns(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range runs {
		got = append(got, r.ID)
		if r.ID == "ok" && (!r.OK() || !r.EndedAt.Equal(epoch.Add(2*time.Second)) || r.Snapshot != "s" || r.Message != "m") {
			t.Errorf("%+v", r)
		}
	}
	slices.Sort(got)
	if want := []string{"ok", "running", "verified"}; !slices.Equal(got, want) {
		t.Errorf("the last runs are %v, want %v", got, want)
	}
}
