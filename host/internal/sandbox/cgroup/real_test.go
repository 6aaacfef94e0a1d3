package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eachVersion runs a test with what the kernel offers: the tree that Open
// chooses, and the unified hierarchy where it can be had but is not the choice.
func eachVersion(t *testing.T, f func(*testing.T, *Tree)) {
	t.Run("chosen", func(t *testing.T) { f(t, opened(t)) })
	t.Run("v2", func(t *testing.T) { f(t, openedV2(t)) })
}

// openedV2 is a tree in the unified hierarchy.
func openedV2(t *testing.T) *Tree {
	t.Helper()
	tree := &Tree{sys: kernel(), name: "sop-test-" + filepath.Base(t.TempDir()), nonce: "v2", missing: make(map[Resource]error)}
	found, reasons, err := discover("/proc")
	if err != nil {
		t.Fatal(err)
	}
	tree.name += strings.ReplaceAll(time.Now().Format("150405.000000"), ".", "")
	c, err := tree.prepareV2(found, reasons)
	if err != nil {
		t.Skipf("no v2 here: %v", err)
	}
	tree.use(c)
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

// The first thing that a process sees of itself is that it is in its group, in
// every hierarchy, and the process that started it is where it was.
func TestPlacedBeforeItRuns(t *testing.T) {
	eachVersion(t, func(t *testing.T, tree *Tree) {
		before, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		g := group(t, tree, Limits{})
		c := start(t, g, "where")
		if n := strings.Count(c.first, "/"+tree.name+"/"+g.Name()+" "); n != len(g.dirs) {
			t.Errorf("in %d of %d hierarchies: %s", n, len(g.dirs), c.first)
		}
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			after, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/cgroup")
			if err == nil && string(after) != string(before) {
				t.Errorf("thread %s is in %s, not in %s", thread.Name(), after, before)
			}
		}
	})
}

// Descendants that detach themselves are counted and ended with the group.
func TestKillEndsAll(t *testing.T) {
	eachVersion(t, func(t *testing.T, tree *Tree) {
		g := group(t, tree, Limits{})
		c := start(t, g, "family")
		pids, err := g.processes()
		if err != nil || len(pids) != 6 || !pids[c.Pid] {
			t.Fatalf("processes %v, %v; started %d and 5 children", pids, err, c.Pid)
		}
		begin := time.Now()
		end(t, g)
		t.Logf("ended %d processes in %v", len(pids), time.Since(begin))
		if ws := c.state().Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
			t.Errorf("ended by %v", ws)
		}
		if left, err := g.processes(); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// Processes that were stopped, or moved themselves into a cgroup beneath, are
// ended too, and what they made is removed.
func TestKillReachesNestedAndStopped(t *testing.T) {
	eachVersion(t, func(t *testing.T, tree *Tree) {
		g := group(t, tree, Limits{})
		c := start(t, g, "family")
		if err := c.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for _, d := range g.dirs {
			nested := filepath.Join(d.path, "a", "b")
			if err := os.MkdirAll(nested, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := write(filepath.Join(nested, "cgroup.procs"), itoa(c.Pid)); err != nil {
				t.Fatal(err)
			}
		}
		end(t, g)
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	})
}

func TestForkBombIsHeld(t *testing.T) {
	tree := opened(t, PIDs)
	const limit = 32
	g := group(t, tree, Limits{PIDs: limit})
	start(t, g, "forks")
	u, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if u.PIDs > limit || u.PIDs < limit/2 || u.PIDsRefused == 0 {
		t.Errorf("usage %+v under a limit of %d", u, limit)
	}
	end(t, g)
	if left, err := g.processes(); err != nil || len(left) != 0 { // what nobody has reaped yet still counts in pids.current
		t.Errorf("after the kill: %v, %v", left, err)
	}
}

func TestMemoryBombIsKilled(t *testing.T) {
	tree := opened(t, Memory)
	neighbour := group(t, tree, Limits{Memory: 64 << 20})
	other := start(t, neighbour, "where")
	g, err := tree.New("bomb", Limits{Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, g, "eats")
	if ws := c.state().Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", ws)
	}
	const over = 1 << 20 // the kernel lets some pages pass the limit while it kills, and counts them
	u, err := g.Usage()
	if err != nil || g.OOMKills() == 0 || u.OOMKills == 0 || u.MemoryPeak > 64<<20+over || u.MemoryPeak < 32<<20 {
		t.Errorf("usage %+v, %v", u, err)
	}
	end(t, g)
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if u, err := neighbour.Usage(); err != nil || u.OOMKills != 0 {
		t.Errorf("the neighbour: %+v, %v", u, err)
	}
	if err := other.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the neighbour: %v", err)
	}
}

// What the limits say is what the kernel has.
func TestLimitsReachTheKernel(t *testing.T) {
	tree := opened(t, Resources()...)
	g := group(t, tree, Limits{Memory: 128 << 20, PIDs: 99, CPUs: 0.5})
	want := map[Resource]map[string]string{
		Memory: {"memory.limit_in_bytes": "134217728"},
		PIDs:   {"pids.max": "99"},
		CPU:    {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"},
	}
	if tree.Version() == V2 {
		want[Memory] = map[string]string{"memory.max": "134217728", "memory.oom.group": "1"}
		want[CPU] = map[string]string{"cpu.max": "50000 100000"}
	}
	for r, files := range want {
		for file, value := range files {
			got, err := os.ReadFile(filepath.Join(g.path(string(r)), file))
			if err != nil || strings.TrimSpace(string(got)) != value {
				t.Errorf("%s is %q, %v; want %s", file, got, err, value)
			}
		}
	}
}

func TestUsageCountsTime(t *testing.T) {
	eachVersion(t, func(t *testing.T, tree *Tree) {
		g := group(t, tree, Limits{})
		start(t, g, "where")
		if u, err := g.Usage(); err != nil || u.CPU <= 0 {
			t.Errorf("usage %+v, %v", u, err)
		}
	})
}

// The next tree of an owner ends and removes what the last one left, also from
// another place than its own, and makes groups of other names.
func TestNextTreeSweeps(t *testing.T) {
	owner := t.TempDir()
	opt := Options{Owner: owner, Record: filepath.Join(owner, "record")}
	first, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	if first.Refused() != nil {
		t.Skipf("no cgroups here: %v", first.Refused())
	}
	g, err := first.New("detector.docs-1", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, g, "family")
	if err := c.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	second, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	if ws := c.state().Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
		t.Errorf("the left process ended by %v", ws)
	}
	for _, d := range g.dirs {
		if _, err := os.Stat(d.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", d.path, err)
		}
	}
	again, err := second.New("detector.docs-1", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if again.Name() == g.Name() {
		t.Errorf("%s was used twice", g.Name())
	}
	if err := errors.Join(again.Remove(), second.Close(), second.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(opt.Record); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record: %v", err)
	}
}

// The record finds the tree of a process that ran in another cgroup; a line that
// names anything else is not acted upon.
func TestRecordIsFollowed(t *testing.T) {
	tree := opened(t)
	h := tree.hierarchies[0]
	elsewhere := filepath.Join(h.own, "elsewhere-"+tree.nonce)
	left := filepath.Join(elsewhere, tree.name, "g-x")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(elsewhere, "sop-foreign", "g-y")
	if err := os.MkdirAll(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	tree.record = filepath.Join(t.TempDir(), "record")
	text := filepath.Dir(left) + "\n" + filepath.Dir(foreign) + "\n/etc/" + tree.name + "\n"
	if err := os.WriteFile(tree.record, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	found, _, err := discover("/proc")
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.sweep(found); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(left)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left: %v", err)
	}
	for _, dir := range []string{foreign, filepath.Dir(foreign), elsewhere} {
		if err := rmdir(dir); err != nil {
			t.Errorf("what was not ours: %v", err)
		}
	}
}

// A thread that cannot leave is told of, and nothing of what it started runs.
func TestThreadThatCannotLeave(t *testing.T) {
	tree := opened(t)
	if tree.Version() != V1 {
		t.Skip("threads enter v1 cgroups only, and v2 is in use here")
	}
	g, err := tree.New("stuck", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	last := len(g.dirs) - 1
	elsewhere := filepath.Join(g.dirs[last].own, "elsewhere-"+tree.nonce)
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	g.dirs[last].own = elsewhere
	exited, placed := make(chan struct{}), make(chan error)
	var pid int
	go OnThread(func() {
		attr := &syscall.SysProcAttr{}
		_, err := g.Start(attr, func() (*os.Process, error) {
			p, err := os.StartProcess("/bin/sleep", []string{"sleep", "300"}, &os.ProcAttr{Sys: attr})
			if err == nil {
				pid = p.Pid
				err = rmdir(elsewhere) // there is no way back any more
			}
			return p, err
		})
		placed <- err
		<-exited
	})
	var place *PlaceError
	if err := <-placed; !errors.As(err, &place) || !place.Stuck {
		t.Errorf("the error is %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v", pid, err)
	}
	end(t, g) // must leave this process alone
	close(exited)
	deadline := time.Now().Add(10 * time.Second)
	for g.Remove() != nil && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // the thread's end cannot be waited for
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

// BenchmarkGroup is what a group costs a start: to make it with a limit, to pass
// the starting thread through it, and to remove it. BenchmarkOpen is what a tree
// costs.
func BenchmarkGroup(b *testing.B) {
	tree, err := Open(Options{Owner: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = tree.Close() }()
	if tree.Refused() != nil {
		b.Skipf("no cgroups here: %v", tree.Refused())
	}
	done := make(chan struct{})
	go OnThread(func() {
		defer close(done)
		for b.Loop() {
			g, err := tree.New("bench", Limits{})
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := g.Start(&syscall.SysProcAttr{}, func() (*os.Process, error) { return nil, nil }); err != nil {
				b.Error(err)
			}
			if err := g.Remove(); err != nil {
				b.Error(err)
			}
		}
	})
	<-done
}

func BenchmarkOpen(b *testing.B) {
	owner := b.TempDir()
	for b.Loop() {
		tree, err := Open(Options{Owner: owner})
		if err != nil {
			b.Fatal(err)
		}
		if err := tree.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
