package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// victim is a package whose two files have two undocumented functions each: one
// task, whose patch changes both files or none.
type victim string

const (
	victimFiles     = 2
	victimFunctions = 2 // of each file
)

func (v victim) file(i int) string { return filepath.Join(string(v), fmt.Sprintf("f%d.go", i)) }

// grow writes a further package and commits it.
func (s *site) grow(n int) victim {
	s.t.Helper()
	v := victim(fmt.Sprintf("p%d", n))
	for i := range victimFiles {
		text := "// Package " + string(v) + " counts.\npackage " + string(v) + "\n"
		for k := range victimFunctions {
			text += fmt.Sprintf("\nfunc F%d%d(n int) int { return n + %d }\n", i, k, k)
		}
		s.write(v.file(i), text)
	}
	s.git("add", string(v))
	s.git("commit", "-qm", "Count "+string(v))
	return v
}

// documented is how many functions of a package have a comment.
func (s *site) documented(v victim) (n int) {
	s.t.Helper()
	for i := range victimFiles {
		text := s.read(filepath.Join(s.work, v.file(i)))
		for k := range victimFunctions {
			n += strings.Count(text, fmt.Sprintf("// F%d%d ", i, k))
			if !strings.Contains(text, fmt.Sprintf("\nfunc F%d%d(n int) int { return n + %d }\n", i, k, k)) {
				s.t.Errorf("a function has gone from %s:\n%s", v.file(i), text)
			}
		}
	}
	return n
}

// awaitLines waits until the timeline has so many lines, or says no more.
func (h *host) awaitLines(n int) {
	silence := 3 * time.Second
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		h.mu.Lock()
		enough, news := len(h.lines) >= n || h.ended, h.news
		h.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-news:
			timer.Reset(silence)
		case <-timer.C:
			return
		}
	}
}

// A host, or one of its plugins, that is killed anywhere in the loop, again and
// again, leaves every package as it was or as it was to become; nothing is done
// twice, and what has been integrated has its backup and its records.
func TestLoopAcrossKills(t *testing.T) {
	t.Parallel()
	kills := 20
	if os.Getenv("SOP_TEST_LONG") != "" {
		kills = 200
	}
	s := loopSite(t, "auto")
	victims := make([]victim, kills)
	for round := range victims {
		victims[round] = s.grow(round)
		h := s.start()
		h.waitUp()
		s.entire(victims[:round])
		h.awaitLines(len(h.timeline()) + rand.IntN(30)) // from where it is up, and at work
		if round%4 == 3 {
			h.killPlugin([]string{"sandbox.scaffold", "backup.files", "detector.docs"}[rand.IntN(3)])
			h.awaitLines(len(h.timeline()) + rand.IntN(20))
		}
		h.kill()
	}
	h := s.start()
	h.waitUp()
	h.settled(kills + 1)
	for _, v := range victims {
		if n := s.documented(v); n != victimFiles*victimFunctions {
			t.Errorf("%d functions of %s are documented", n, v)
		}
	}
	if gaps := s.gaps("--rule", "docs.go.exported"); len(gaps) != 0 {
		t.Errorf("gaps are left: %v", places(gaps))
	}
	h.accountedFor(kills + 1)
	h.must(0, "audit", "verify")
}

// entire asserts that each package is soon as it was or as it was to become: a
// host that is up may be changing one just now.
func (s *site) entire(victims []victim) {
	s.t.Helper()
	for _, v := range victims {
		var n int
		if !eventually(patience, func() bool { n = s.documented(v); return n == 0 || n == victimFiles*victimFunctions }) {
			s.t.Errorf("%d functions of %s are documented, a mixture", n, v)
		}
	}
}

// killPlugin kills a plugin that is in service.
func (h *host) killPlugin(id string) {
	h.t.Helper()
	status := h.waitFor(id+" is in service", func(st *apiv1.Status) bool { return plugin(st, id).GetState() == "ready" })
	kill(h.t, plugin(status, id).GetPid(), syscall.SIGKILL)
}

// settled waits until all tasks, so many, are done.
func (h *host) settled(want int) {
	h.t.Helper()
	states := make(map[string]int)
	if !eventually(3*patience, func() bool {
		clear(states)
		for _, task := range h.tasks() {
			states[task.State]++
		}
		return states["done"] == want && len(states) == 1
	}) {
		h.t.Fatalf("the tasks are %v, want %d done: %+v", states, want, h.tasks())
	}
}

// accountedFor asserts that each task was done by one patch, integrated once, with
// a backup.
func (h *host) accountedFor(tasks int) {
	h.t.Helper()
	backups := h.must(0, "backup", "list", "--limit", "0", "-o", "json").stdout
	records := decode[struct {
		Records []struct {
			Action   string `json:"action"`
			Resource string `json:"resource"`
			Outcome  string `json:"outcome"`
		} `json:"records"`
	}](h.t, h.must(0, "audit", "search", "--action", "patch.integrated", "--limit", "0", "-o", "json"))
	integrated := make(map[string]int)
	for _, r := range records.Records {
		if r.Outcome == "success" {
			integrated[r.Resource]++
		}
	}
	for _, task := range h.tasks() {
		if n := integrated["patch/"+task.Patch]; n != 1 {
			h.t.Errorf("there are %d records of the integration of patch %s", n, task.Patch)
		}
		if !strings.Contains(backups, task.Patch) {
			h.t.Errorf("patch %s has no backup", task.Patch)
		}
		delete(integrated, "patch/"+task.Patch)
	}
	for resource := range integrated {
		id := strings.TrimPrefix(resource, "patch/")
		h.t.Errorf("besides the patches of the %d tasks %s was integrated: %s\n%s", tasks, id,
			h.must(0, "patch", "show", id).stdout, h.must(0, "audit", "search", "--limit", "0").stdout)
	}
}
