package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
)

// RunPatches runs the suite of patch stores. open returns an empty store, and
// closes it when t ends.
func RunPatches(t *testing.T, open func(t *testing.T) patch.Store) {
	for name, test := range map[string]func(*testing.T, patch.Store){
		"RoundTrip": testPatchRoundTrip,
		"Rollback":  testPatchRollback,
		"Keys":      testPatchKeys,
		"List":      testPatchList,
		"Contents":  testPatchContents,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func makePatch(id string) *patch.Patch {
	return &patch.Patch{
		ID: id, Task: "t1", Workspace: "w", Title: "Fix it", Proposer: "p", Hash: "h" + id, Base: "b", Files: 1, Bytes: 7, Rule: patch.Two,
		Set:      &sandbox.ChangeSet{Changes: []sandbox.Change{{Path: "a b", Op: sandbox.OpAdd, Mode: 0o644, Size: 7, SHA256: "x"}}},
		Evidence: json.RawMessage(`{"a":1}`), Verdict: json.RawMessage(`[2]`), Passed: true, Risks: []patch.Risk{patch.RiskCI, patch.RiskSecurity},
		Approvals: []patch.Approval{{By: "me", Hash: "h" + id, At: epoch, Why: "fine"}}, State: patch.StateProposed, Reason: "r",
		Supersedes: "s", SupersededBy: "t", Token: "tok", Backup: "bak", Done: patch.Done{Mode: "branch", Commit: "c", Branch: "b", File: "f", Notes: []string{"n"}},
		CreatedAt: epoch, ChangedAt: epoch.Add(1), IntegratedAt: epoch.Add(2), Version: 1,
	}
}

func patchMade(p *patch.Patch) patch.Change {
	return patch.Change{
		PatchID: p.ID, Task: p.Task, Workspace: p.Workspace, Hash: p.Hash, Token: "k", Action: patch.Proposed, At: epoch, To: p.State, By: "me", Why: "w",
	}
}

func createPatch(t *testing.T, s patch.Store, p *patch.Patch, key string, contents map[string]int64) {
	t.Helper()
	err := s.Update(t.Context(), func(tx patch.Tx) error { return tx.Create(t.Context(), p, key, contents, patchMade(p)) })
	if err != nil {
		t.Fatal(err)
	}
}

func testPatchRoundTrip(t *testing.T, s patch.Store) {
	full, bare := makePatch("01-full"), &patch.Patch{ID: "01-bare", Set: new(sandbox.ChangeSet), State: patch.StateProposed, CreatedAt: epoch, ChangedAt: epoch}
	for _, p := range []*patch.Patch{full, bare} {
		createPatch(t, s, p, "", nil)
		want := *p
		want.History = []patch.Change{patchMade(p)}
		for _, ref := range []string{p.ID, p.ID[:4]} {
			if got, err := s.Get(t.Context(), ref); err != nil || !reflect.DeepEqual(got, &want) {
				t.Errorf("stored\n%+v, got\n%+v, %v", &want, got, err)
			}
		}
	}
	full.State, full.Version, full.Reason, full.Dropped = patch.StateVerified, 2, "now", true
	full.Approvals, full.Risks, full.IntegratedAt = nil, nil, time.Time{}
	change := patchMade(full)
	change.Action, change.From = patch.Verified, patch.StateProposed
	err := s.Update(t.Context(), func(tx patch.Tx) error { return tx.Put(t.Context(), full, change) })
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Get(t.Context(), full.ID)
	if err != nil || len(got.History) != 2 || got.History[1] != change {
		t.Fatalf("%+v, %v", got, err)
	}
	if got.History = nil; !reflect.DeepEqual(got, full) {
		t.Errorf("stored\n%+v, got\n%+v", full, got)
	}
	for ref, want := range map[string]error{"": patch.ErrNotFound, "02": patch.ErrNotFound, "01": patch.ErrAmbiguous, "01-": patch.ErrAmbiguous} {
		if _, err := s.Get(t.Context(), ref); !errors.Is(err, want) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func testPatchRollback(t *testing.T, s patch.Store) {
	failed := errors.New("no")
	err := s.Update(t.Context(), func(tx patch.Tx) error {
		p := makePatch("1")
		return errors.Join(tx.Create(t.Context(), p, "k", map[string]int64{"x": 1}, patchMade(p)), failed)
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "1"); !errors.Is(err, patch.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
	if all, err := s.Contents(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("contents %v, %v", all, err)
	}
}

func testPatchKeys(t *testing.T, s patch.Store) {
	createPatch(t, s, makePatch("1"), "k", nil)
	createPatch(t, s, makePatch("2"), "", nil)
	createPatch(t, s, makePatch("3"), "", nil)
	for key, want := range map[string]string{"k": "1", "l": "", "": ""} {
		err := s.Update(t.Context(), func(tx patch.Tx) error {
			p, err := tx.ByKey(t.Context(), key)
			if (p == nil) != (want == "") || p != nil && p.ID != want {
				t.Errorf("%q: %+v", key, p)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	err := s.Update(t.Context(), func(tx patch.Tx) error {
		return tx.Create(t.Context(), makePatch("4"), "k", nil, patchMade(makePatch("4")))
	})
	if err == nil {
		t.Error("one key for two patches")
	}
}

func testPatchList(t *testing.T, s patch.Store) {
	for i := range 7 {
		p := makePatch(fmt.Sprint(i))
		p.Files = i
		if i%2 == 0 {
			p.Task, p.Workspace, p.State, p.Risks = "even", "v", patch.StateVerified, nil
		}
		createPatch(t, s, p, "", nil)
	}
	where := func(text string) *filter.Node {
		n, err := filter.Parse(text, patch.ListFields)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	order, err := filter.ParseOrder("files", patch.ListFields)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter patch.Filter
		want   string
	}{
		"all":       {patch.Filter{}, "6543210"},
		"task":      {patch.Filter{Task: "even"}, "6420"},
		"workspace": {patch.Filter{Workspace: "w"}, "531"},
		"state":     {patch.Filter{States: []patch.State{patch.StateVerified, patch.StateDenied}}, "6420"},
		"where":     {patch.Filter{Where: where(`risks : "ci" AND files > 1`)}, "53"},
		"order":     {patch.Filter{Order: order}, "0123456"},
	} {
		for _, limit := range []int{0, 1, 3} {
			got := ""
			for f := c.filter; ; {
				f.Limit = limit
				page, err := s.List(t.Context(), f)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				for _, p := range page.Patches {
					got += p.ID
					if p.Set != nil || p.Evidence != nil || p.Verdict != nil || p.Title == "" {
						t.Errorf("%s: %+v", name, p)
					}
				}
				if f.Token = page.Next; f.Token == "" {
					break
				}
			}
			if got != c.want {
				t.Errorf("%s by %d: %s, want %s", name, limit, got, c.want)
			}
		}
	}
}

func testPatchContents(t *testing.T, s patch.Store) {
	for id, contents := range map[string]map[string]int64{"1": {"x": 1, "y": 2}, "2": {"y": 2, "z": 4}, "3": {"w": 8}} {
		p := makePatch(id)
		if id == "1" {
			p.State = patch.StateIntegrated
		}
		if id == "3" {
			p.State, p.ChangedAt = patch.StateDenied, epoch.Add(time.Hour)
		}
		createPatch(t, s, p, "", contents)
	}
	want := func(want map[string]int64, sum int64) {
		t.Helper()
		if got, err := s.Contents(t.Context()); err != nil || !maps.Equal(got, want) {
			t.Errorf("contents %v, %v, want %v", got, err, want)
		}
		if n, err := s.Kept(t.Context()); err != nil || n != sum {
			t.Errorf("%d bytes, %v, want %d", n, err, sum)
		}
	}
	want(map[string]int64{"x": 1, "y": 2, "z": 4, "w": 8}, 15)
	drop := func(before time.Time) (n int) {
		t.Helper()
		err := s.Update(t.Context(), func(tx patch.Tx) (err error) {
			n, err = tx.Drop(t.Context(), before, 10)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := drop(epoch.Add(time.Minute)); n != 1 { // the second is not through, and the third too young
		t.Errorf("dropped %d", n)
	}
	want(map[string]int64{"y": 2, "z": 4, "w": 8}, 14)
	if n := drop(epoch.Add(time.Minute)); n != 0 {
		t.Errorf("dropped %d once more", n)
	}
	if p, err := s.Get(t.Context(), "1"); err != nil || !p.Dropped {
		t.Errorf("%+v, %v", p, err)
	}
	if n := drop(epoch.Add(2 * time.Hour)); n != 1 {
		t.Errorf("dropped %d", n)
	}
}
