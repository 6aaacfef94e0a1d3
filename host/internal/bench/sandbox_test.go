package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// sandboxRunner uses the launcher that make build has built.
func sandboxRunner(t *testing.T) *sandbox.Runner {
	t.Helper()
	path, err := filepath.Abs("../../../bin/" + sandbox.LauncherName)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	return &sandbox.Runner{Launcher: path}
}

// medianOf returns how long something takes.
func medianOf(t *testing.T, runs int, do func() error) time.Duration {
	t.Helper()
	took := make([]time.Duration, runs)
	for i := range took {
		began := time.Now()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[runs/2]
}

func runTrue(r *sandbox.Runner, workspace string) error {
	out, err := r.Run(context.Background(), sandbox.Spec{Profile: sandbox.DefaultProfile, Workspace: workspace, Argv: []string{"/bin/true"}})
	if err != nil {
		return err
	}
	if out.Status != sandbox.Exited || out.Level != sandbox.LevelStrict {
		return fmt.Errorf("%v %v", out.Status, out.Refusal)
	}
	return out.Close()
}

func TestBenchSandboxStart(t *testing.T) {
	wanted(t)
	r, dir := sandboxRunner(t), t.TempDir()
	start := func() error { return runTrue(r, dir) }
	if err := start(); err != nil {
		t.Fatal(err)
	}
	small := medianOf(t, 41, start)
	heap := make([]byte, 1<<30)
	for i := 0; i < len(heap); i += 4096 {
		heap[i] = 1
	}
	large := medianOf(t, 41, start)
	again := medianOf(t, 41, start)
	say(t, "sandbox start: 1 GB heap / empty heap", float64(min(large, again))/float64(small), "≤ 1.1", "%v / %v", min(large, again), small)
	if heap[0] == 0 {
		t.Fatal("the heap is not there")
	}
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		t.Logf("bench  sandbox start: bwrap is not installed; /bin/true in strict takes %v", small)
		return
	}
	args := []string{
		"--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
		"--symlink", "usr/lib64", "/lib64", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--bind", dir, "/workspace", "--die-with-parent", "/bin/true",
	}
	floor := medianOf(t, 41, func() error { return exec.CommandContext(t.Context(), bwrap, args...).Run() })
	say(t, "sandbox start: strict / bwrap", float64(small)/float64(floor), "≤ 2", "%v / %v", small, floor)
}

// 20,000 files, 51 edits: a run and what it changed, against a copy.
func TestBenchSandboxTree(t *testing.T) {
	wanted(t)
	r, dir := sandboxRunner(t), t.TempDir()
	tree := filepath.Join(dir, "tree")
	for i := range 20_000 {
		sub := filepath.Join(tree, fmt.Sprint("d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint("f", i)), fmt.Appendf(nil, "%0*d\n", 2000, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const script = "i=0; while [ $i -lt 50 ]; do echo more >> d$i/f${i}00; i=$((i+1)); done; rm d60/f6000"
	edit := func() error {
		out, err := r.Run(context.Background(), sandbox.Spec{Profile: sandbox.DefaultProfile, Workspace: tree, Argv: []string{"sh", "-c", script}})
		if err != nil {
			return err
		}
		set, err := out.Changes(sandbox.DefaultChangeLimits)
		if err != nil {
			return err
		}
		if len(set.Changes) != 51 || len(set.Rejected) > 0 {
			return fmt.Errorf("%d changes, rejected %v", len(set.Changes), set.Rejected)
		}
		return out.Close()
	}
	if err := edit(); err != nil {
		t.Fatal(err)
	}
	ours := medianOf(t, 11, edit)
	n := 0
	floor := medianOf(t, 3, func() error {
		n++
		return exec.CommandContext(t.Context(), "cp", "-a", tree, filepath.Join(dir, fmt.Sprint("copy", n))).Run()
	})
	say(t, "sandbox: cp -a of 20k files / run with 51 edits", float64(floor)/float64(ours), "≥ 50", "%v / %v", floor, ours)
}
