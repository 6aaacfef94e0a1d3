package task_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/task"
)

// In a process that is to be killed nothing else runs.
func init() {
	if dir := os.Getenv("TASK_TEST_VICTIM"); dir != "" {
		if err := workUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

func openTasks(ctx context.Context, dir string) (*store.DB, *task.Service, error) {
	db, err := store.Open(ctx, filepath.Join(dir, "sop.db"))
	if err != nil {
		return nil, nil, err
	}
	return db, task.NewService(db.Tasks(), task.Options{}), nil
}

// workUntilKilled takes tasks some part of the way, as the host and as an agent,
// and says each step once it has been acknowledged.
func workUntilKilled(dir string) error {
	ctx := context.Background()
	_, s, err := openTasks(ctx, dir)
	if err != nil {
		return err
	}
	if _, err := s.Recover(ctx); err != nil {
		return err
	}
	done := make(chan error)
	for i := range 4 {
		by := task.HostClaimant
		if i%2 == 1 {
			by = fmt.Sprint("agent-", i)
		}
		go func() {
			for {
				if err := workOnce(ctx, s, by); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	return <-done
}

func workOnce(ctx context.Context, s *task.Service, by string) error {
	t, err := s.Create(ctx, task.New{Kind: task.KindManual, Title: "t", Workspace: "w", By: by, Attempts: 100})
	if err != nil {
		return err
	}
	fmt.Println(t.ID, t.Version)
	way := []struct {
		stage task.Stage
		to    task.State
	}{{stage: task.StageGenerate}, {to: task.StateRunning}, {to: task.StateProposed}, {stage: task.StageVerify}, {to: task.StateApproved}, {stage: task.StageIntegrate}, {to: task.StateDone}}
	for _, step := range way[:rand.IntN(len(way)+1)] {
		if step.stage != "" {
			t, err = s.Claim(ctx, task.ClaimRequest{Stage: step.stage, By: by, ID: t.ID})
		} else {
			t, err = s.Advance(ctx, t.Hold(), task.Step{To: step.to})
		}
		if err != nil {
			return err
		}
		fmt.Println(t.ID, t.Version)
	}
	return nil
}

// TestKilledHostKeepsItsTasks kills a process that works on tasks, again and again
// on one database. After each start what was acknowledged is there, the states,
// holders and fences are what the audit log says, and the host holds nothing.
func TestKilledHostKeepsItsTasks(t *testing.T) {
	kills := 20
	if os.Getenv("SOP_TEST_LONG") != "" {
		kills = 200
	}
	dir := t.TempDir()
	acknowledged := 0
	for range kills {
		said := killedAtWork(t, dir, 10+rand.IntN(60))
		db, s, err := openTasks(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for id, version := range said {
			acknowledged++
			if got, err := s.Get(t.Context(), id); err != nil || got.Version < version {
				t.Errorf("version %d of %s was acknowledged, found %+v, %v", version, id, got, err)
			}
		}
		agree(t, db, s)
		if _, err := s.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		agree(t, db, s)
		if page, err := s.List(t.Context(), task.Filter{Holder: task.HostClaimant}); err != nil || len(page.Tasks) > 0 {
			t.Errorf("the host holds %d tasks that nobody works on, %v", len(page.Tasks), err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d tasks acknowledged", kills, acknowledged)
}

// killedAtWork runs the victim until it has said some lines, kills it, and returns
// the last version of each task that it acknowledged.
func killedAtWork(t *testing.T, dir string, lines int) map[string]int64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "TASK_TEST_VICTIM="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(map[string]int64)
	scan := bufio.NewScanner(out)
	for n := 0; scan.Scan(); n++ {
		if n == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		var id string
		var version int64
		if _, err := fmt.Sscan(scan.Text(), &id, &version); err == nil { // the last line may be half
			said[id] = max(said[id], version)
		}
	}
	_ = cmd.Wait() // it was killed
	if len(said) == 0 {
		t.Fatal("the process did nothing")
	}
	return said
}

// agree compares every task with what the audit log and its history say last.
func agree(t *testing.T, db *store.DB, s *task.Service) {
	t.Helper()
	states, fences, records := make(map[string]string), make(map[string]string), make(map[string]int64)
	for r, err := range db.Audit().Records(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		id, is := strings.CutPrefix(r.Resource, "task/")
		if !is {
			continue
		}
		if from := r.Attributes["from"]; from != states[id] {
			t.Errorf("task %s was %q, and the next record says %q", id, states[id], from)
		}
		states[id], fences[id] = r.Attributes["to"], r.Attributes["fence"]
		records[id]++
	}
	f := task.Filter{}
	seen := 0
	for {
		page, err := s.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Tasks {
			seen++
			if states[k.ID] != string(k.State) || fences[k.ID] != fmt.Sprint(k.Fence) || records[k.ID] != k.Version || k.State.Held() == k.LeaseUntil.IsZero() {
				t.Errorf("%+v; the log says %s, fence %s, %d records", k, states[k.ID], fences[k.ID], records[k.ID])
			}
		}
		if f.Token = page.Next; f.Token == "" {
			break
		}
	}
	if seen != len(states) {
		t.Errorf("%d tasks, and records of %d", seen, len(states))
	}
}
