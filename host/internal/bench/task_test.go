package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/task"
)

const (
	openTasks    = 10_000
	taskClaims   = 2000
	taskWorkers  = 8
	claimTarget  = 20 * time.Millisecond
	listTarget   = 100 * time.Millisecond
	listRepeated = 11
)

// TestBenchTasks: 10 000 open tasks on disk. Claims of eight workers at once, each
// durable with its audit record, and the list as the command line shows it.
func TestBenchTasks(t *testing.T) {
	wanted(t)
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "sop.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s := task.NewService(db.Tasks(), task.Options{})
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			for i := range openTasks / crowd {
				_, err := s.Create(t.Context(), task.New{
					Kind: task.KindManual, Title: fmt.Sprintf("task %d of a crowd, with a title of usual length", i), Workspace: "w", By: "bench",
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()

	var mu sync.Mutex
	var took []time.Duration
	for i := range taskWorkers {
		wg.Go(func() {
			for range taskClaims / taskWorkers {
				begin := time.Now()
				got, err := s.Claim(t.Context(), task.ClaimRequest{Stage: task.StageGenerate, By: fmt.Sprint("agent-", i)})
				if err != nil || got == nil {
					t.Errorf("claimed %v, %v", got, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(begin))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	say(t, "claim of 10 000 open tasks, p99", float64(p99)/float64(claimTarget), "≤ 1×", "p50 %s, p99 %s of %s", took[len(took)/2], p99, claimTarget)

	socket := serveTasks(t, s)
	list := measureList(t, socket)
	say(t, "sop task list of 10 000 open tasks", float64(list)/float64(listTarget), "≤ 1×", "median %s of %s, with the start of the program", list, listTarget)
}

// serveTasks serves the API on a socket.
func serveTasks(t *testing.T, s *task.Service) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := api.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	server := api.NewServer(&nexus.Nexus{Tasks: s, Logger: hclog.NewNullLogger()})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		<-done
	})
	return path
}

// measureList is the median of what the command takes.
func measureList(t *testing.T, socket string) time.Duration {
	t.Helper()
	program, err := filepath.Abs("../../../bin/sop")
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for range listRepeated {
		cmd := exec.CommandContext(t.Context(), program, "task", "list", "--socket", socket)
		begin := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took[len(took)/2]
}
