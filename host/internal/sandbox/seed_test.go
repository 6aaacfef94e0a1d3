package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", first, first))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.Atoi(string(bytes.TrimSpace(children)))
	if err != nil {
		t.Fatalf("process %d has the children %q", first, children)
	}
	if err := syscall.Kill(seed, syscall.SIGKILL); err != nil {
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
