package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const approvals = 9

const approvalConfig = `
host { data_dir = %q }
workspace "main" { path = %q }
plugin "detector" "docs" { command = "${path.plugins}/detector-docs" }
plugin "sandbox" "scaffold" { command = "${path.plugins}/sandbox-scaffold" }
plugin "backup" "files" { command = "${path.plugins}/backup-files" }
rule "docs" {
  match { rule = "docs.go.exported" }
  sandbox = "scaffold"
  verify  = ["gap"]
  group   = "none"
}
`

// A loop is a host on the built programs with gaps whose patches wait for approval.
type loop struct {
	t           *testing.T
	sop, config string
}

type loopTask struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Patch   string `json:"patch"`
	History []struct {
		To string    `json:"to"`
		At time.Time `json:"at"`
	} `json:"history"`
}

func (l *loop) ask(into any, args ...string) {
	l.t.Helper()
	out, err := exec.CommandContext(l.t.Context(), l.sop, append(args, "-c", l.config, "-o", "json")...).Output()
	if err != nil {
		l.t.Fatalf("sop %v: %v\n%s", args, err, out)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(out, into); err != nil {
		l.t.Fatalf("sop %v: %v\n%s", args, err, out)
	}
}

// in returns the tasks that are in a state.
func (l *loop) in(state string) []loopTask {
	l.t.Helper()
	var list struct {
		Tasks []loopTask `json:"tasks"`
	}
	l.ask(&list, "task", "list", "--state", state)
	return list.Tasks
}

// await returns the tasks in a state once there are as many.
func (l *loop) await(state string, count int) []loopTask {
	l.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if found := l.in(state); len(found) >= count {
			return found
		}
	}
	l.t.Fatalf("there are no %d tasks %s: %+v", count, state, l.in("all"))
	return nil
}

func newLoop(t *testing.T) *loop {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	files := map[string]string{"README.md": "# A tree\n\nIt is one.\n", "go.mod": "module example.com/tree\n\ngo 1.25\n"}
	for i := range approvals {
		files[fmt.Sprintf("p%d/p.go", i)] = fmt.Sprintf("// Package p%d is one.\npackage p%d\n\nfunc Exported(a, b int) int { return a + b }\n", i, i)
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := &loop{t: t, sop: program(t), config: filepath.Join(dir, "config.hcl")}
	if err := os.WriteFile(l.config, fmt.Appendf(nil, approvalConfig, filepath.Join(dir, "data"), tree), 0o600); err != nil {
		t.Fatal(err)
	}
	l.ask(nil, "plugin", "lock")
	up := exec.CommandContext(context.WithoutCancel(t.Context()), l.sop, "up", "-c", l.config, "-o", "json")
	stdout, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		if err := up.Wait(); err != nil {
			t.Error(err)
		}
	})
	awaitScan(t, bufio.NewScanner(stdout))
	return l
}

// TestBenchApproval: what passes between an approval and the end of its task, as
// the host's own record has it: token, backup, integration and the rescan.
func TestBenchApproval(t *testing.T) {
	wanted(t)
	l := newLoop(t)
	waiting := l.await("awaiting_approval", approvals)
	var took []time.Duration
	for i, task := range waiting {
		l.ask(nil, "patch", "approve", task.Patch)
		l.await("done", i+1)
		var shown struct {
			Task loopTask `json:"task"`
		}
		l.ask(&shown, "task", "show", task.ID)
		var approved, done time.Time
		for _, step := range shown.Task.History {
			switch step.To {
			case "approved":
				approved = step.At
			case "done":
				done = step.At
			}
		}
		if approved.IsZero() || !done.After(approved) {
			t.Fatalf("%+v", shown.Task)
		}
		took = append(took, done.Sub(approved))
	}
	t.Logf("bench  %-44s median %v of %d, target ≤ 500ms, no verify steps among it", "approval to done, one-file patch", median(took), len(took))
}
