package workspace

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCompareRealChanges(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.write(t, map[string]string{"a": "1", "b": "1", "c/d": "1", "c/e": "1", "f": "1"})
	settle()
	first := s.walk(t, Options{})
	again := s.walk(t, Options{})
	if c := Compare(first, again); !c.Empty() || first.Revision != again.Revision {
		t.Errorf("unchanged tree: %+v, %s and %s", c, first.Revision, again.Revision)
	}
	// Same size and modification time: only the change time tells.
	info, err := os.Stat(filepath.Join(s.root, "b"))
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, map[string]string{"a": "22", "b": "2", "c/new": ""})
	if err := os.Chtimes(filepath.Join(s.root, "b"), info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.root, "f")); err != nil {
		t.Fatal(err)
	}
	now := s.walk(t, Options{})
	want := Changes{Added: []string{"c/new"}, Modified: []string{"a", "b"}, Removed: []string{"f"}}
	if got := Compare(first, now); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if first.Revision == now.Revision {
		t.Error("the revision did not change")
	}
	if got := Compare(nil, now); len(got.Added) != len(now.Files) {
		t.Errorf("against nothing: %+v", got)
	}
}

func TestRacilyClean(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	day := int64(24 * time.Hour)
	cases := []struct {
		name         string
		mtime, ctime int64
		racy         bool
	}{
		{"old", at - day, at - day, false},
		{"just before", at - granularity, at - granularity, true},
		{"a little earlier", at - granularity - 1, at - granularity - 1, false},
		{"during", at + 5, at + 5, true},
		{"times set back", at - day, at + 5, true},
		{"no change time", at + 5, 0, true},
		{"from the future for good", at + day, at - day, false},
	}
	for _, c := range cases {
		f := File{Path: "f", Size: 1, ModTime: c.mtime, CTime: c.ctime}
		old := &Manifest{Files: []File{f}, WalkedAt: at, Took: time.Second}
		now := &Manifest{Files: []File{f}, WalkedAt: at + 9*day, Took: time.Second}
		old.seal()
		now.seal()
		if got := len(Compare(old, now).Modified) == 1; got != c.racy {
			t.Errorf("%s: modified %v", c.name, got)
		}
		if got := old.Revision != now.Revision; got != c.racy {
			t.Errorf("%s: revisions differ %v", c.name, got)
		}
	}
}

// TestNoWriteIsMissed overwrites a file in place, same size, right after each walk.
func TestNoWriteIsMissed(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.write(t, map[string]string{"f": "0"})
	old := s.walk(t, Options{})
	for i := range 200 {
		s.write(t, map[string]string{"f": string(rune('0' + i%10))})
		now := s.walk(t, Options{})
		if c := Compare(old, now); len(c.Modified) != 1 {
			t.Fatalf("write %d went unnoticed: %+v", i, c)
		}
		old = now
	}
}

func TestIncompleteNeverRemoves(t *testing.T) {
	t.Parallel()
	files := func(paths ...string) []File {
		var fs []File
		for _, p := range paths {
			fs = append(fs, File{Path: p, CTime: 1})
		}
		return fs
	}
	old := &Manifest{Files: files("a", "d/x", "d/y/z", "d2/x", "e"), WalkedAt: 1 << 60}
	now := &Manifest{Files: files("a"), Incomplete: []string{"d", "e"}, WalkedAt: 1 << 60}
	if got := Compare(old, now); !reflect.DeepEqual(got, Changes{Removed: []string{"d2/x"}}) {
		t.Errorf("%+v", got)
	}
	baseline := Baseline(old, now)
	wantPaths(t, pathsOf(baseline), []string{"a", "d/x", "d/y/z", "e"})
	later := &Manifest{Files: files("a", "d/x"), WalkedAt: 1 << 60}
	want := Changes{Modified: []string{"d/x"}, Removed: []string{"d/y/z", "e"}}
	if got := Compare(baseline, later); !reflect.DeepEqual(got, want) {
		t.Errorf("after the baseline: %+v", got)
	}
	if Baseline(old, later) != later {
		t.Error("a complete manifest is its own baseline")
	}
	now.Incomplete = []string{"."}
	if got := Compare(old, now); !got.Empty() {
		t.Errorf("nothing covered: %+v", got)
	}
}

// TestCompareLikeMaps holds Compare and Baseline against the obvious definition.
func TestCompareLikeMaps(t *testing.T) {
	t.Parallel()
	path := rapid.SampledFrom([]string{"a", "a-", "a/b", "a/b/c", "a/c", "b", "b/x", "c/a", "c/a/d", "c/b"})
	manifest := func(rt *rapid.T, label string, incomplete bool) *Manifest {
		m := &Manifest{WalkedAt: 1 << 60}
		for _, p := range rapid.SliceOfDistinct(path, rapid.ID).Draw(rt, label) {
			m.Files = append(m.Files, File{Path: p, Size: int64(rapid.IntRange(0, 1).Draw(rt, "size")), CTime: 1})
		}
		slices.SortFunc(m.Files, func(a, b File) int { return compareHeads([]File{a}, []File{b}) })
		if incomplete {
			m.Incomplete = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "a/b", "b", "c/a", "."}), 0, 2, rapid.ID).Draw(rt, "lost")
		}
		m.seal()
		return m
	}
	rapid.Check(t, func(rt *rapid.T) {
		old, now, later := manifest(rt, "old", false), manifest(rt, "now", true), manifest(rt, "later", false)
		var want Changes
		for _, f := range now.Files {
			if g, ok := old.File(f.Path); !ok {
				want.Added = append(want.Added, f.Path)
			} else if g != f {
				want.Modified = append(want.Modified, f.Path)
			}
		}
		for _, f := range old.Files {
			if !now.Has(f.Path) && now.Covers(f.Path) {
				want.Removed = append(want.Removed, f.Path)
			}
		}
		if got := Compare(old, now); !reflect.DeepEqual(got, want) {
			rt.Fatalf("got %+v, want %+v", got, want)
		}
		// What old had and later has not is reported as removed by one of the two comparisons.
		removed := slices.Concat(Compare(old, now).Removed, Compare(Baseline(old, now), later).Removed)
		for _, f := range old.Files {
			if !later.Has(f.Path) && !slices.Contains(removed, f.Path) {
				rt.Fatalf("%s was never removed", f.Path)
			}
		}
	})
}
