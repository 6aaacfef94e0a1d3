package store_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/store/storetest"
	"github.com/sop-host/sop/host/internal/task"
)

func TestTasksSQLite(t *testing.T) {
	storetest.RunTasks(t, func(t *testing.T) task.Store { return open(t, filepath.Join(t.TempDir(), "sop.db")).Tasks() })
}

func TestTasksMemory(t *testing.T) {
	storetest.RunTasks(t, func(t *testing.T) task.Store {
		db, err := store.OpenMemory(t.Context())
		return closeLater(t, db, err).Tasks()
	})
}

// TestGapsFollowTheirTask: a task, its gaps and the records of both change in one
// transaction.
func TestGapsFollowTheirTask(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "sop.db"))
	now := time.Now().UTC()
	ids := []string{"01890000-0000-7000-8000-000000000001", "01890000-0000-7000-8000-000000000002"}
	err := db.Gaps().Update(t.Context(), func(tx gap.Tx) error {
		for i, id := range ids {
			g := &gap.Gap{
				ID: id, Fingerprint: "g1:" + id, Workspace: "w", Rule: "docs.go", Severity: gap.SeverityHigh, FirstSeen: now.Add(-time.Hour), LastSeen: now,
				State: gap.StateOpen, Location: gap.Location{Path: "a/b.go", Line: i + 1},
			}
			if err := tx.Put(t.Context(), []*gap.Gap{g}, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s := task.NewService(db.Tasks(), task.Options{})
	made, err := s.Create(t.Context(), task.New{Kind: task.KindGap, Title: "document a/b.go", Workspace: "w", Gaps: ids, By: "me"})
	if err != nil {
		t.Fatal(err)
	}
	if made.Target != "a/b.go" || made.Severity != "high" || made.Rule != "docs.go" || !made.Since.Equal(now.Add(-time.Hour)) {
		t.Errorf("made %+v", made)
	}
	is := func(want gap.State) {
		t.Helper()
		for _, id := range ids {
			if g, err := db.Gaps().Get(t.Context(), id); err != nil || g.State != want {
				t.Errorf("gap is %+v, want %s, %v", g, want, err)
			}
		}
	}
	is(gap.StateTicketed)
	held, err := s.Claim(t.Context(), task.ClaimRequest{Stage: task.StageGenerate, By: "a"})
	if err != nil {
		t.Fatal(err)
	}
	is(gap.StateInProgress)
	step := func(to task.State) {
		t.Helper()
		if held, err = s.Advance(t.Context(), held.Hold(), task.Step{To: to}); err != nil {
			t.Fatal(err)
		}
	}
	step(task.StateProposed)
	if held, err = s.Claim(t.Context(), task.ClaimRequest{Stage: task.StageVerify, By: "a"}); err != nil {
		t.Fatal(err)
	}
	step(task.StateApproved)
	if held, err = s.Claim(t.Context(), task.ClaimRequest{Stage: task.StageIntegrate, By: "a"}); err != nil {
		t.Fatal(err)
	}
	if held, err = s.Integrated(t.Context(), held.Hold()); err != nil {
		t.Fatal(err)
	}
	is(gap.StateVerifying)
	if _, err := s.Advance(t.Context(), held.Hold(), task.Step{To: task.StateDone}); err == nil {
		t.Error("done, and its gaps are there")
	}
	step(task.StateRolledBack)
	is(gap.StateTicketed)
	if _, err := s.Cancel(t.Context(), made.ID, "me", "no"); err != nil {
		t.Fatal(err)
	}
	is(gap.StateOpen)

	full, err := s.Get(t.Context(), made.ID)
	if err != nil {
		t.Fatal(err)
	}
	var recorded, followed []string
	for r, err := range db.Audit().Records(t.Context(), 1) {
		switch {
		case err != nil:
			t.Fatal(err)
		case r.Resource == "task/"+made.ID:
			recorded = append(recorded, r.Action)
		case r.Actor == "task "+made.ID:
			followed = append(followed, r.Action)
		}
	}
	var want []string
	for _, c := range full.History {
		want = append(want, "task."+string(c.Action))
	}
	if !slices.Equal(recorded, want) || len(followed) == 0 || len(followed) != strings.Count(strings.Join(followed, " "), "gap.follow") {
		t.Errorf("recorded %v and %v, want %v", recorded, followed, want)
	}
}
