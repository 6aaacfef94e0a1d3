package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// long says that every combination is to be tried, and not a sample.
func long() bool { return os.Getenv("SOP_TEST_LONG") != "" }

// stride is from one crash point to the next that is tried; first is where that
// begins.
func stride() int {
	if long() {
		return 1
	}
	return 9
}

func first() int { return 1 + rand.IntN(stride()) }

// recoverKilled recovers a workspace in processes that are killed on the way, and
// at last in one that is not. times is how many are killed at most.
func recoverKilled(t *testing.T, root string, times int) {
	t.Helper()
	for range times {
		if (job{Do: "recover", Root: root, Kill: 1 + rand.IntN(40)}).run(t) {
			break
		}
	}
	job{Do: "recover", Root: root}.run(t)
}

// wantOldOrNew asserts that a workspace is one or the other as a whole, that the
// journal says which, and that it can be said again.
func (f *fixture) wantOldOrNew(t *testing.T, when string) (state RecordState) {
	t.Helper()
	i := New(Options{})
	all, err := i.Recover(t.Context(), f.root)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for _, one := range all {
		if one.State == StateConflict {
			t.Fatalf("%s: %+v", when, one)
		}
	}
	state, err = i.State(t.Context(), f.root, "p1")
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	want := f.old
	if state == StateIntegrated {
		want = f.new
	}
	if d := difference(want, tableOf(t, f.root)); d != "" {
		t.Fatalf("%s, the journal says %q:\n%s", when, state, d)
	}
	return state
}

// reset makes the workspace old again, by means of its own.
func (f *fixture) reset(t *testing.T, before files) {
	t.Helper()
	must(t, unlock(f.root))
	must(t, os.RemoveAll(f.root))
	must(t, os.Mkdir(f.root, 0o755))
	before.write(t, f.root)
}

func unlock(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, 0o700)
		}
		return err
	})
}

// TestKilledAtEveryStep kills a process that integrates at one step after the
// other, and recovers, killed too.
func TestKilledAtEveryStep(t *testing.T) {
	f := newFixture(t, everyBefore, everyAfter)
	times, points := 1, 0
	states := make(map[RecordState]int)
	for step := first(); ; step += stride() {
		f.reset(t, everyBefore)
		finished := job{Do: "integrate", Root: f.root, ID: "p1", Set: f.set, After: f.after, Kill: step}.run(t)
		recoverKilled(t, f.root, times)
		states[f.wantOldOrNew(t, fmt.Sprintf("killed at step %d", step))]++
		points++
		// What was undone can be done.
		i := New(Options{})
		if _, err := i.Integrate(t.Context(), f.request()); err != nil {
			t.Fatalf("again after step %d: %v", step, err)
		}
		f.want(t, f.new, fmt.Sprintf("again after step %d", step))
		if finished {
			break
		}
	}
	t.Logf("%d crash points, then: %v", points, states)
	if points < 100/stride() || states[StateIntegrated] < 1 || states[StateNone] < 90/stride() {
		t.Errorf("that is not every step: %v", states)
	}
}

func TestRollbackKilledAtEveryStep(t *testing.T) {
	f := newFixture(t, everyBefore, everyAfter)
	points := 0
	states := make(map[RecordState]int)
	for step := first(); ; step += stride() {
		f.reset(t, everyBefore)
		if _, err := New(Options{}).Integrate(t.Context(), f.request()); err != nil {
			t.Fatal(err)
		}
		finished := job{Do: "rollback", Root: f.root, ID: "p1", Kill: step}.run(t)
		recoverKilled(t, f.root, 1)
		states[f.wantOldOrNew(t, fmt.Sprintf("killed at step %d", step))]++
		points++
		if _, err := New(Options{}).Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1"}); err != nil {
			t.Fatalf("again after step %d: %v", step, err)
		}
		f.want(t, f.old, fmt.Sprintf("again after step %d", step))
		if finished {
			break
		}
	}
	t.Logf("%d crash points, then: %v", points, states)
	if points < 80/stride() || states[StateRolledBack] < 80/stride() {
		t.Errorf("that is not every step: %v", states)
	}
}

// TestRecoveryKilledAtEveryStep kills the recovery of an integration that was
// killed when all was exchanged and nothing was settled.
func TestRecoveryKilledAtEveryStep(t *testing.T) {
	f := newFixture(t, everyBefore, everyAfter)
	last := 1
	for ; ; last++ { // the last step at which it is not yet integrated
		f.reset(t, everyBefore)
		job{Do: "integrate", Root: f.root, ID: "p1", Set: f.set, After: f.after, Kill: last}.run(t)
		if _, err := os.Stat(filepath.Join(f.root, PrivateDir, "p1", string(done))); err == nil {
			last--
			break
		}
	}
	points := 0
	for step := first(); ; step += stride() {
		f.reset(t, everyBefore)
		if (job{Do: "integrate", Root: f.root, ID: "p1", Set: f.set, After: f.after, Kill: last}).run(t) {
			t.Fatal("it was not killed")
		}
		f.want(t, f.new, "not settled")
		finished := job{Do: "recover", Root: f.root, Kill: step}.run(t)
		if state := f.wantOldOrNew(t, fmt.Sprintf("recovery killed at step %d", step)); state != StateNone {
			t.Fatalf("state %q", state)
		}
		points++
		if finished {
			break
		}
	}
	t.Logf("%d crash points of recovery", points)
	if points < 80/stride() {
		t.Error("that is not every step")
	}
}

// An edit made between a crash and the recovery is kept. Where it is to a file
// that was exchanged already, nothing at all is touched.
func TestEditAfterCrash(t *testing.T) {
	before := files{"a": "a1\n", "b": "b1\n", "c": "c1\n"}
	after := files{"a": "a2\n", "b": "b2\n", "c": "c2\n", "d": "d2\n"}
	steps, conflicts, undone := 0, 0, 0
	for step := 1; ; step++ {
		f := newFixture(t, before, after)
		finished := job{Do: "integrate", Root: f.root, ID: "p1", Set: f.set, After: f.after, Kill: step}.run(t)
		must(t, os.WriteFile(filepath.Join(f.root, "b"), []byte("mine\n"), 0o644))
		edited := tableOf(t, f.root)
		i := New(Options{})
		for range 2 { // it can be said again
			all, err := i.Recover(t.Context(), f.root)
			if err != nil {
				t.Fatal(err)
			}
			now := tableOf(t, f.root)
			if now["b"] != edited["b"] {
				t.Fatalf("step %d: the edit is lost: %s", step, now["b"])
			}
			switch {
			case len(all) == 1 && all[0].State == StateConflict:
				conflicts++
				if d := difference(edited, now); d != "" || !strings.Contains(all[0].Conflict, "b: it is file") {
					t.Fatalf("step %d: %+v\n%s", step, all[0], d)
				}
				_, err := i.Integrate(t.Context(), f.request())
				wantReason(t, err, ReasonConflict)
			case len(all) == 1 && all[0].State == StateUndone:
				undone++
				fallthrough
			case len(all) == 0:
				want := tableOf(t, before.write(t, t.TempDir()))
				want["b"] = edited["b"]
				if d := difference(want, now); d != "" {
					t.Fatalf("step %d:\n%s", step, d)
				}
			}
		}
		steps++
		if finished {
			break
		}
	}
	if conflicts == 0 || undone == 0 {
		t.Errorf("of %d steps, %d ended in conflict and %d undone", steps, conflicts, undone)
	}
}

// randomTrees makes two trees of a few names, so that they clash often.
func randomTrees(r *rand.Rand) (before, after files) {
	before, after = make(files), make(files)
	for _, out := range []files{before, after} {
		for range 1 + r.IntN(8) {
			parts := make([]string, 1+r.IntN(3))
			for i := range parts {
				parts[i] = string(rune('a' + r.IntN(3)))
			}
			name := strings.Join(parts, "/")
			switch r.IntN(6) {
			case 0:
				out.put(name+"/", fmt.Sprintf("0%d55:", 5+2*r.IntN(2)))
			case 1:
				out.put(name, "->"+string(rune('a'+r.IntN(3))))
			default:
				out.put(name, fmt.Sprintf("06%d4:%d\n", 4*r.IntN(2), r.IntN(3)))
			}
		}
	}
	return before, after
}

// put adds an entry unless another is in its way.
func (f files) put(name, text string) {
	bare := strings.TrimSuffix(name, "/")
	for other := range f {
		o := strings.TrimSuffix(other, "/")
		if o == bare || strings.HasPrefix(bare, o+"/") && !strings.HasSuffix(other, "/") || strings.HasPrefix(o, bare+"/") && !strings.HasSuffix(name, "/") {
			return
		}
	}
	f[name] = text
}

// TestRandomTrees takes random trees into others, with a crash at a random step,
// by way of recovery, and back.
func TestRandomTrees(t *testing.T) {
	rounds := 25
	if long() {
		rounds = 3000
	}
	for round := range rounds {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		before, after := randomTrees(r)
		f := &fixture{root: before.write(t, memory(t)), after: after.write(t, memory(t))}
		f.set, f.old, f.new = changes(t, f.root, f.after), tableOf(t, f.root), tableOf(t, f.after)
		if len(f.set.Changes) == 0 {
			continue
		}
		when := fmt.Sprintf("round %d, seed %d, %v → %v", round, seed, before, after)
		job{Do: "integrate", Root: f.root, ID: "p1", Set: f.set, After: f.after, Kill: 1 + r.IntN(10*len(f.set.Changes))}.run(t)
		recoverKilled(t, f.root, r.IntN(2))
		f.wantOldOrNew(t, when)
		i := New(Options{})
		if _, err := i.Integrate(t.Context(), f.request()); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		f.want(t, f.new, when)
		if r.IntN(2) == 0 { // by the change set in place of the old copies
			must(t, i.Forget(t.Context(), f.root, "p1"))
			old := before.write(t, t.TempDir())
			req := RollbackRequest{Root: f.root, ID: "p1", Set: f.set, New: in(f.after), Old: []Copy{copyIn("old", old)}}
			if _, err := i.Rollback(t.Context(), req); err != nil {
				t.Fatalf("%s, back by the change set: %v", when, err)
			}
		} else if _, err := i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1"}); err != nil {
			t.Fatalf("%s, back: %v", when, err)
		}
		f.want(t, f.old, when+", back")
		must(t, errors.Join(unlock(f.root), unlock(f.after)))
	}
}

// mounted mounts a small file system, or skips.
func mounted(t *testing.T, kind, options string, size int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	dir := t.TempDir()
	if kind == "tmpfs" {
		if err := unix.Mount("none", dir, kind, 0, options); err != nil {
			t.Skipf("mount a tmpfs: %v", err)
		}
	} else {
		image := filepath.Join(t.TempDir(), "image")
		mountImage(t, image, dir, size)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func mountImage(t *testing.T, image, dir string, size int64) {
	t.Helper()
	if size > 0 {
		must(t, os.WriteFile(image, nil, 0o600))
		must(t, os.Truncate(image, size))
		if out, err := exec.Command("mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
			t.Skipf("make a file system: %v: %s", err, out)
		}
	}
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("mount a file system in a file: %v: %s", err, out)
	}
}

// TestNoSpace integrates into a file system that is too full, at first for all and
// then for the last bytes only.
func TestNoSpace(t *testing.T) {
	root := mounted(t, "tmpfs", "size=4m,nr_inodes=200,mode=0755", 0)
	before := files{"a": "a\n", "b": "b\n", "c/d": "d\n"}
	after := files{"a": strings.Repeat("a", 1<<20), "b": strings.Repeat("b", 1<<20), "c/d": "D\n", "c/e": "e\n"}
	f := &fixture{root: before.write(t, root), after: after.write(t, t.TempDir())}
	f.set, f.old, f.new = changes(t, f.root, f.after), tableOf(t, f.root), tableOf(t, f.after)
	filler := filepath.Join(root, "filler")
	i := New(Options{})
	for left := int64(0); ; left += 200 << 10 {
		_ = os.Remove(filler)
		var fs unix.Statfs_t
		must(t, unix.Statfs(root, &fs))
		must(t, os.WriteFile(filler, make([]byte, max(0, int64(fs.Bavail)*fs.Bsize-left)), 0o600))
		_, err := i.Integrate(t.Context(), f.request())
		must(t, os.Remove(filler))
		if err == nil {
			f.want(t, f.new, "integrated")
			break
		}
		wantReason(t, err, ReasonNoSpace)
		f.want(t, f.old, fmt.Sprintf("with %d bytes left", left))
	}
	// Space that goes while it works.
	if _, err := i.Rollback(t.Context(), RollbackRequest{Root: root, ID: "p1"}); err != nil {
		t.Fatal(err)
	}
	stage := atStep
	defer func() { atStep = stage }()
	for _, at := range []string{"staged", "plan created", "record made", "slot created"} {
		atStep = func(step string) {
			if step == at {
				atStep = nil
				var fs unix.Statfs_t
				must(t, unix.Statfs(root, &fs))
				must(t, os.WriteFile(filler, make([]byte, int64(fs.Bavail)*fs.Bsize), 0o600))
			}
		}
		_, err := i.Integrate(t.Context(), f.request())
		must(t, os.Remove(filler))
		wantReason(t, err, ReasonNoSpace)
		f.want(t, f.old, "full after "+at)
	}
	if _, err := i.Integrate(t.Context(), f.request()); err != nil {
		t.Error(err)
	}
}

// TestReadOnlyDirectory has a directory refuse its part in the middle.
func TestReadOnlyDirectory(t *testing.T) {
	root := mounted(t, "ext4", "", 32<<20)
	before := files{"a/f": "a\n", "b/f": "b\n", "c/f": "c\n"}
	after := files{"a/f": "A\n", "b/f": "B\n", "c/f": "C\n"}
	f := &fixture{root: before.write(t, root), after: after.write(t, t.TempDir())}
	f.set, f.old, f.new = changes(t, f.root, f.after), tableOf(t, f.root), tableOf(t, f.after)
	delete(f.old, "lost+found")
	if err := os.Remove(filepath.Join(root, "lost+found")); err != nil {
		t.Fatal(err)
	}
	f.set = changes(t, f.root, f.after)
	if out, err := exec.Command("chattr", "+i", filepath.Join(root, "b")).CombinedOutput(); err != nil {
		t.Skipf("chattr: %v: %s", err, out)
	}
	_, err := New(Options{}).Integrate(t.Context(), f.request())
	wantReason(t, err, ReasonReadOnly)
	f.want(t, f.old, "one directory refuses")
	if out, err := exec.Command("chattr", "-i", filepath.Join(root, "b")).CombinedOutput(); err != nil {
		t.Fatalf("chattr: %v: %s", err, out)
	}
	must(t, unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err = New(Options{}).Integrate(t.Context(), f.request())
	wantReason(t, err, ReasonReadOnly)
	f.want(t, f.old, "all refuse")
}

// TestPowerCut copies the image of a file system at the moment of a crash, and
// looks at what is in the copy: it has what was made durable, and what else the
// kernel happened to have written.
func TestPowerCut(t *testing.T) {
	before := files{"a": "a1\n", "d/b": "b1\n", "gone": "g\n", "mode": "m\n"}
	after := files{"a": "a2\n", "d/b": "b2\n", "d/new": "n\n", "mode": "0600:m\n"}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	set, old, now := fixtureOf(t, before, after)
	afterDir := after.write(t, t.TempDir())
	points := 0
	for step := first(); ; step += stride() {
		dir, work := t.TempDir(), t.TempDir()
		image := filepath.Join(work, "image")
		mountImage(t, image, dir, 16<<20)
		root := filepath.Join(dir, "w")
		must(t, os.Mkdir(root, 0o755))
		before.write(t, root)
		unix.Sync()
		finished := job{Do: "integrate", Root: root, ID: "p1", Set: set, After: afterDir, Kill: step}.run(t)
		copied := filepath.Join(work, "copy")
		if out, err := exec.Command("cp", "--sparse=always", image, copied).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		must(t, unix.Unmount(dir, 0))
		mountImage(t, copied, dir, 0)
		f := &fixture{root: root, set: set, old: old, new: now}
		state := f.wantOldOrNew(t, fmt.Sprintf("power cut at step %d", step))
		if finished && state != StateIntegrated {
			t.Errorf("it was acknowledged, and is %q", state)
		}
		must(t, unix.Unmount(dir, 0))
		points++
		if finished {
			break
		}
	}
	t.Logf("%d power cuts", points)
}

func fixtureOf(t *testing.T, before, after files) (set *sandbox.ChangeSet, old, now files) {
	t.Helper()
	b, a := before.write(t, t.TempDir()), after.write(t, t.TempDir())
	return changes(t, b, a), tableOf(t, b), tableOf(t, a)
}
