package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// slots are the files of the record that hold what was replaced.
func slots(t *testing.T, root string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(root, PrivateDir, "p1", "[0-9]*"))
	must(t, err)
	return slices.DeleteFunc(all, func(name string) bool {
		info, err := os.Lstat(name)
		return err != nil || !info.Mode().IsRegular()
	})
}

// What becomes of the journal's copies: each must lead to the same old tree, from a
// copy elsewhere.
var losses = map[string]func(t *testing.T, root string){
	"a copy is gone": func(t *testing.T, root string) { must(t, os.Remove(slots(t, root)[0])) },
	"all copies are gone": func(t *testing.T, root string) {
		for _, name := range slots(t, root) {
			must(t, os.Remove(name))
		}
	},
	"a copy is another": func(t *testing.T, root string) {
		must(t, os.WriteFile(slots(t, root)[0], []byte("another\n"), 0o600))
	},
	"the plan cannot be read": func(t *testing.T, root string) {
		must(t, os.WriteFile(filepath.Join(root, PrivateDir, "p1", string(done)), []byte("{"), 0o600))
	},
	"the record is gone": func(t *testing.T, root string) { must(t, New(Options{}).Forget(t.Context(), root, "p1")) },
}

func TestRollbackFromACopy(t *testing.T) {
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, everyBefore, everyAfter)
			old := everyBefore.write(t, memory(t))
			i := New(Options{})
			if _, err := i.Integrate(t.Context(), f.request()); err != nil {
				t.Fatal(err)
			}
			lose(t, f.root)
			req := RollbackRequest{Root: f.root, ID: "p1", Set: f.set}
			_, err := i.Rollback(t.Context(), req)
			wantReason(t, err, ReasonCopies)
			f.want(t, f.new, "refused")

			empty := t.TempDir()
			closed := 0
			backup := copyIn("backup 1", old)
			open := backup.Open
			backup.Open = func(ctx context.Context) (sandbox.Content, func() error, error) {
				content, _, err := open(ctx)
				return content, func() error { closed++; return nil }, err
			}
			var saved []string
			req.Old = []Copy{copyIn("empty", empty), backup}
			req.Before = func(_ context.Context, paths []string) error {
				f.want(t, f.new, "when it is saved")
				saved = paths
				return nil
			}
			result, err := i.Rollback(t.Context(), req)
			if err != nil || result.From != "backup 1" || result.Again || closed != 1 {
				t.Fatalf("%+v, closed %d times, %v", result, closed, err)
			}
			if !slices.Contains(saved, "modified") || slices.Contains(saved, "kept") {
				t.Errorf("saved %q", saved)
			}
			f.want(t, f.old, "rolled back")
			if left := records(t, f.root); len(left) > 0 {
				t.Errorf("records left: %v", left)
			}
			if result, err = i.Rollback(t.Context(), req); err != nil || !result.Again {
				t.Errorf("a second time: %+v, %v", result, err)
			}
		})
	}
}

// With every copy damaged nothing is touched, and the error says what is wrong with
// each.
func TestRollbackWithEveryCopyDamaged(t *testing.T) {
	f := newFixture(t, files{"a": "a1\n", "b": "b1\n"}, files{"a": "a2\n", "b": "b2\n"})
	old := files{"a": "a1\n", "b": "rotten\n"}.write(t, t.TempDir())
	i := New(Options{})
	if _, err := i.Integrate(t.Context(), f.request()); err != nil {
		t.Fatal(err)
	}
	must(t, os.Remove(slots(t, f.root)[0]))
	lost := Copy{Name: "backup 2", Open: func(context.Context) (sandbox.Content, func() error, error) {
		return nil, nil, errors.New("it was deleted")
	}}
	req := RollbackRequest{Root: f.root, ID: "p1", Set: f.set, Old: []Copy{copyIn("backup 1", old), lost}}
	_, err := i.Rollback(t.Context(), req)
	wantReason(t, err, ReasonCopies)
	for _, want := range []string{"journal: the copy of a is gone", "backup 1: b: it is damaged", "backup 2: it was deleted"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	f.want(t, f.new, "refused")
	if state, err := i.State(t.Context(), f.root, "p1"); state != StateIntegrated || err != nil {
		t.Errorf("state %q, %v", state, err)
	}
}

// Edits are kept whether or not there is a record, and merged only when asked for.
func TestRollbackFromACopyKeepsEdits(t *testing.T) {
	for name, edit := range map[string]func(root string) error{
		"edited": func(root string) error { return os.WriteFile(filepath.Join(root, "a"), []byte("mine\n"), 0o644) },
		"made a link": func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "a")), os.Symlink("b", filepath.Join(root, "a")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, files{"a": "a1\n", "b": "b1\n"}, files{"a": "a2\n", "b": "b2\n"})
			old := files{"a": "a1\n", "b": "b1\n"}.write(t, t.TempDir())
			i := New(Options{})
			if _, err := i.Integrate(t.Context(), f.request()); err != nil {
				t.Fatal(err)
			}
			losses["the record is gone"](t, f.root)
			must(t, edit(f.root))
			edited := tableOf(t, f.root)
			_, err := i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1", Set: f.set, New: in(f.after), Old: []Copy{copyIn("old", old)}})
			wantReason(t, err, ReasonFilesChanged)
			f.want(t, edited, "refused")
		})
	}
}

// kinded is content that says what it is the content of.
type kinded struct {
	io.ReadCloser
	link bool
}

func (k kinded) IsLink() bool { return k.link }

// A deleted file that has the mode of links, as all have on some mounts, comes back as
// a file, and a link as a link.
func TestRollbackKnowsLinksFromFiles(t *testing.T) {
	before := files{"run.sh": "0777:#!/bin/sh\n", "word": "0777:word", "link": "->word", "kept": "k\n"}
	f := newFixture(t, before, files{"kept": "k\n"})
	old := before.write(t, t.TempDir())
	plain := copyIn("old", old)
	says := Copy{Name: "old", Open: func(context.Context) (sandbox.Content, func() error, error) {
		return func(c sandbox.Change) (io.ReadCloser, error) {
			from, err := in(old)(c)
			return kinded{from, c.Path == "link"}, err
		}, func() error { return nil }, nil
	}}
	i := New(Options{})
	if _, err := i.Integrate(t.Context(), f.request()); err != nil {
		t.Fatal(err)
	}
	must(t, i.Forget(t.Context(), f.root, "p1"))
	if _, err := i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1", Set: f.set, Old: []Copy{says}}); err != nil {
		t.Fatal(err)
	}
	f.want(t, f.old, "rolled back")

	must(t, os.Remove(filepath.Join(f.root, "run.sh")))
	set := &sandbox.ChangeSet{Changes: slices.DeleteFunc(slices.Clone(f.set.Changes), func(c sandbox.Change) bool { return c.Path != "run.sh" })}
	if _, err := i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p2", Set: set, Old: []Copy{plain}}); err != nil {
		t.Fatal(err)
	}
	f.want(t, f.old, "from a copy that does not say")
}

// What somebody has put back as it was hinders no rollback.
func TestRollbackOfWhatIsBack(t *testing.T) {
	before := files{"a": "a1\n", "b": "b1\n", "gone": "g\n", "dir/gone": "g\n", "run": "0755:r\n"}
	after := files{"a": "a2\n", "b": "b2\n", "run": "0644:r\n", "new": "n\n"}
	backs := map[string]files{
		"a file":         {"a": before["a"]},
		"a deleted file": {"gone": before["gone"]},
		"a directory":    {"dir/": "", "dir/gone": before["dir/gone"]},
		"a mode":         {"run": before["run"]},
		"all that was":   before,
	}
	for name, back := range backs {
		for kept, lose := range map[string]func(t *testing.T, root string){"journal": func(*testing.T, string) {}, "copy": losses["the record is gone"]} {
			t.Run(name+" with the "+kept, func(t *testing.T) {
				f := newFixture(t, before, after)
				i := New(Options{})
				if _, err := i.Integrate(t.Context(), f.request()); err != nil {
					t.Fatal(err)
				}
				lose(t, f.root)
				back.write(t, f.root)
				req := RollbackRequest{Root: f.root, ID: "p1", Set: f.set, New: in(f.after), Old: []Copy{copyIn("old", before.write(t, t.TempDir()))}}
				if _, err := i.Rollback(t.Context(), req); err != nil {
					t.Fatal(err)
				}
				f.want(t, f.old, "rolled back")
			})
		}
	}
}

// TestRollbackFromACopyKilledAtEveryStep kills a process that rolls back from a
// copy, at one step after the other: the tree is old or new, the journal says
// which, and trying again brings it back.
func TestRollbackFromACopyKilledAtEveryStep(t *testing.T) {
	f := newFixture(t, everyBefore, everyAfter)
	old := everyBefore.write(t, memory(t))
	points := 0
	states := make(map[RecordState]int)
	for step := first(); ; step += stride() {
		f.reset(t, everyBefore)
		if _, err := New(Options{}).Integrate(t.Context(), f.request()); err != nil {
			t.Fatal(err)
		}
		losses["a copy is gone"](t, f.root)
		back := job{Do: "rollback", Root: f.root, ID: "p1", Set: f.set, Old: old}
		killed := back
		killed.Kill = step
		finished := killed.run(t)
		recoverKilled(t, f.root, 1)
		i := New(Options{})
		state, err := i.State(t.Context(), f.root, "p1")
		must(t, err)
		want := f.new
		if state != StateIntegrated {
			want = f.old
		}
		if d := difference(want, tableOf(t, f.root)); d != "" {
			t.Fatalf("killed at step %d, the journal says %q:\n%s", step, state, d)
		}
		states[state]++
		points++
		back.run(t)
		f.want(t, f.old, fmt.Sprintf("again after step %d", step))
		if finished {
			break
		}
	}
	t.Logf("%d crash points, then: %v", points, states)
	if points < 80/stride() || states[StateIntegrated] < 1 {
		t.Errorf("that is not every step: %v", states)
	}
}
