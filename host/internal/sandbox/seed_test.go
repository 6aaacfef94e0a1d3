package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// What is kept between runs may be killed or given up: the next run has another.
func TestSeedIsReplaced(t *testing.T) {
	needs(t, LevelStrict)
	r := &Runner{Launcher: launcherPath()}
	dir := t.TempDir()
	once := func() error {
		out, err := r.Run(t.Context(), Spec{Profile: DefaultProfile, Workspace: dir, Argv: []string{"true"}})
		if err != nil {
			return err
		}
		if out.Status != Exited || out.Exit != 0 {
			err = fmt.Errorf("%v, exit %d, %v", out.Status, out.Exit, out.Refusal)
		}
		return errors.Join(err, out.Close())
	}
	if err := once(); err != nil {
		t.Fatal(err)
	}
	first := r.seed.cmd.Process.Pid
	if err := syscall.Kill(onlyChild(t, first), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var runs sync.WaitGroup
	for range 4 {
		runs.Go(func() {
			if err := once(); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	if now := r.seed.cmd.Process.Pid; now == first {
		t.Error("the seed is the same")
	}
	if err := errors.Join(r.Close(), r.Close(), once(), r.Close()); err != nil {
		t.Error(err)
	}
}

// onlyChild is the child of a process, whichever of its threads has forked it.
func onlyChild(t *testing.T, pid int) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var children []int
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		var state string
		var parent int
		after := text[bytes.LastIndexByte(text, ')')+1:] // the name may hold anything
		if _, err := fmt.Sscan(string(after), &state, &parent); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if parent == pid && state != "Z" {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			children = append(children, child)
		}
	}
	if len(children) != 1 {
		t.Fatalf("process %d has the children %v", pid, children)
	}
	return children[0]
}
