package sandbox

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
)

// inGroup does one run in a cgroup.
func inGroup(t *testing.T, level Level, limits Limits, name string, more ...string) *Outcome {
	t.Helper()
	needs(t, level)
	tree, err := cgroup.Open(cgroup.Options{Owner: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(tree.Refused(), tree.Missing(cgroup.Memory), tree.Missing(cgroup.PIDs)); err != nil {
		t.Skipf("no cgroups here: %v", err)
	}
	dir := t.TempDir()
	arm(t, dir, targets{})
	r := &Runner{Launcher: launcherPath(), Cgroups: tree}
	t.Cleanup(func() { r.Close() })
	out, err := r.Run(t.Context(), Spec{
		Profile: Profile{Name: "test", Level: level, Limits: limits}, Workspace: dir,
		Argv: append([]string{"./attacker", "bomb", name}, more...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	if !out.Counted {
		t.Fatalf("there was no cgroup: %v", out.Notes)
	}
	return out
}

func TestCgroupHoldsMemory(t *testing.T) {
	for _, level := range []Level{LevelStrict, LevelLandlock} {
		for _, name := range []string{"shared", "memory-many", "memfd"} {
			t.Run(string(level)+" "+name, func(t *testing.T) {
				limits := small
				limits.Pids, limits.Wall = 400, 8*time.Second // one goes on until then
				out := inGroup(t, level, limits, name)
				if !slices.Contains(out.Limits, LimitMemory) {
					t.Errorf("%v, exit %d, limits %v, used %+v\n%s%s", out.Status, out.Exit, out.Limits, out.Usage, out.Stdout.Text, out.Stderr.Text)
				}
				if most := small.MemoryBytes + 4<<20; out.Usage.MemoryPeak > most {
					t.Errorf("it used %d bytes, the limit is about %d", out.Usage.MemoryPeak, most)
				}
			})
		}
	}
}

func TestCgroupHoldsForks(t *testing.T) {
	out := inGroup(t, LevelLandlock, small, "fork")
	if n := reached(t, out); n > int(small.Pids)+launcherPids {
		t.Errorf("it started %d processes", n)
	}
}
