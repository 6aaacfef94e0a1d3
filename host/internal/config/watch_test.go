package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const (
	testDebounce = 10 * time.Millisecond
	testDeadline = 10 * time.Second
)

// startWatcher runs a watcher until the test ends.
func startWatcher(t *testing.T, path string) *Watcher {
	t.Helper()
	w, err := NewWatcher(path, testDebounce)
	if err != nil {
		t.Fatal(err)
	}
	run(t, w)
	return w
}

func run(t *testing.T, w *Watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(testDeadline):
			t.Error("Run did not return")
		}
	})
}

// awaitChange waits for one signal.
func awaitChange(t *testing.T, w *Watcher, what string) {
	t.Helper()
	select {
	case <-w.Changes():
	case <-time.After(testDeadline):
		t.Fatalf("no signal: %s", what)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func replaceFile(t *testing.T, dir, name, content string) {
	t.Helper()
	temporary := write(t, dir, name+".tmp", content)
	must(t, os.Rename(temporary, filepath.Join(dir, name)))
}

func TestWatchFile(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "config.hcl", "# 1")
	w := startWatcher(t, file)
	write(t, dir, "config.hcl", "# 2")
	awaitChange(t, w, "written in place")
	replaceFile(t, dir, "config.hcl", "# 3")
	awaitChange(t, w, "renamed over")
	must(t, os.Remove(file))
	awaitChange(t, w, "deleted")
	write(t, dir, "config.hcl", "# 3")
	awaitChange(t, w, "created again")
	write(t, dir, LockFileName, "# lock")
	awaitChange(t, w, "lock file")
	must(t, os.RemoveAll(dir))
	awaitChange(t, w, "directory deleted")
	must(t, os.Mkdir(dir, 0o755))
	write(t, dir, "config.hcl", "# 4")
	awaitChange(t, w, "directory created again")
	write(t, dir, "config.hcl", "# 5")
	awaitChange(t, w, "written in the new directory")
}

func TestWatchDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.hcl", "# 1")
	w := startWatcher(t, dir)
	write(t, dir, "b.hcl", "# 1")
	awaitChange(t, w, "file added")
	must(t, os.Remove(filepath.Join(dir, "a.hcl")))
	awaitChange(t, w, "file removed")
	must(t, os.Rename(filepath.Join(dir, "b.hcl"), filepath.Join(dir, "c.hcl")))
	awaitChange(t, w, "file renamed")
	elsewhere := write(t, t.TempDir(), "target", "# 1")
	must(t, os.Symlink(elsewhere, filepath.Join(dir, "link.hcl")))
	awaitChange(t, w, "link added")
	write(t, filepath.Dir(elsewhere), "target", "# 2")
	awaitChange(t, w, "target of the link written")
}

// TestWatchConfigMap swaps the ..data link as Kubernetes does.
func TestWatchConfigMap(t *testing.T) {
	for _, mode := range []string{"directory", "file"} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			version := func(name, content string) {
				must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
				write(t, filepath.Join(dir, name), "config.hcl", content)
				must(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")), os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
			}
			version("..2026_1", "# 1")
			file := filepath.Join(dir, "config.hcl")
			must(t, os.Symlink("..data/config.hcl", file))
			path := dir
			if mode == "file" {
				path = file
			}
			w := startWatcher(t, path)
			version("..2026_2", "# 2")
			awaitChange(t, w, "first swap")
			must(t, os.RemoveAll(filepath.Join(dir, "..2026_1")))
			version("..2026_3", "# 3")
			awaitChange(t, w, "second swap")
		})
	}
}

// TestWatchReleaseLink swaps a link on the way to the configuration.
func TestWatchReleaseLink(t *testing.T) {
	root := t.TempDir()
	for _, release := range []string{"r1", "r2"} {
		must(t, os.MkdirAll(filepath.Join(root, release, "etc"), 0o755))
		write(t, filepath.Join(root, release, "etc"), "config.hcl", "# "+release)
	}
	current := filepath.Join(root, "current")
	must(t, os.Symlink("r1", current))
	w := startWatcher(t, filepath.Join(current, "etc", "config.hcl"))
	must(t, os.Symlink("r2", current+".new"), os.Rename(current+".new", current))
	awaitChange(t, w, "link swapped")
	write(t, filepath.Join(root, "r2", "etc"), "config.hcl", "# new")
	awaitChange(t, w, "file in the new target")
}

func TestWatchWhatIsMissing(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b")
	w := startWatcher(t, filepath.Join(dir, "config.hcl"))
	must(t, os.MkdirAll(dir, 0o755))
	write(t, dir, "config.hcl", "# 1")
	awaitChange(t, w, "created with its directories")
}

// TestWatchBeforeRun changes a file between NewWatcher and Run.
func TestWatchBeforeRun(t *testing.T) {
	dir := t.TempDir()
	w, err := NewWatcher(write(t, dir, "config.hcl", "# 1"), testDebounce)
	must(t, err)
	write(t, dir, "config.hcl", "# 2")
	run(t, w)
	awaitChange(t, w, "changed before Run")
}

// TestWatchIgnores makes changes that mean nothing, and then one that does:
// there is exactly one signal.
func TestWatchIgnores(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "config.hcl", "# 1")
	w := startWatcher(t, file)
	for range 100 {
		write(t, dir, "notes.txt", "x")
		write(t, dir, "other.hcl", "# not ours")
		write(t, dir, "config.hcl", "# 1")
		must(t, os.Chtimes(file, time.Now(), time.Now()))
	}
	// An in-place rewrite may be seen half done; a rename may not.
	drainUntilQuiet(w)
	replaceFile(t, dir, "config.hcl", "# 2")
	awaitChange(t, w, "the one change")
	select {
	case <-w.Changes():
		t.Error("a second signal")
	case <-time.After(20 * testDebounce):
	}
}

// drainUntilQuiet receives signals until there is none for some time.
func drainUntilQuiet(w *Watcher) {
	for {
		select {
		case <-w.Changes():
		case <-time.After(20 * testDebounce):
			return
		}
	}
}

// TestWatchNeverQuiet keeps writing: the signal comes all the same.
func TestWatchNeverQuiet(t *testing.T) {
	dir := t.TempDir()
	w := startWatcher(t, write(t, dir, "config.hcl", "# 1"))
	deadline := time.After(testDeadline)
	for i := 0; ; i++ {
		replaceFile(t, dir, "config.hcl", "# "+time.Duration(i).String())
		select {
		case <-w.Changes():
			return
		case <-deadline:
			t.Fatal("no signal")
		default:
		}
	}
}

func TestWatchStops(t *testing.T) {
	w, err := NewWatcher(t.TempDir(), 0)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := w.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	if _, err := NewWatcher("", 0); err == nil {
		t.Error("no error without a path")
	}
}

func TestRouteRelevant(t *testing.T) {
	dir := t.TempDir()
	r := routeTo(write(t, dir, "settings", "# 1"))
	for name, want := range map[string]bool{
		"settings": true, "x.hcl": true, LockFileName: true, "..data": true,
		"notes.txt": false, ".config.hcl.swp": false, ".x.hcl": false, "settings~": false,
	} {
		if got := r.relevant(filepath.Join(dir, name)); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestWatchFiles(t *testing.T) {
	dir, target := t.TempDir(), t.TempDir()
	one := write(t, dir, "one", "1")
	must(t, os.Mkdir(filepath.Join(target, "a"), 0o755))
	must(t, os.Mkdir(filepath.Join(target, "b"), 0o755))
	must(t, os.Symlink("a", filepath.Join(target, "..data")))
	two := filepath.Join(target, "..data", "two")
	ctx, stop := context.WithCancel(t.Context())
	looks, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- WatchFiles(ctx, []string{one, two}, time.Millisecond, func() {
			select {
			case looks <- struct{}{}:
			default: // one is waiting already
			}
		})
	}()
	await := func(what string) {
		t.Helper()
		select {
		case <-looks:
		case <-time.After(10 * time.Second):
			t.Fatalf("not noticed: %s", what)
		}
	}
	await("the start")
	write(t, dir, "one", "2")
	await("a file is written")
	write(t, filepath.Join(target, "a"), "two", "1")
	await("a file appears behind a link")
	must(t, os.Symlink("b", filepath.Join(target, "new")))
	must(t, os.Rename(filepath.Join(target, "new"), filepath.Join(target, "..data")))
	await("a link is swapped")
	must(t, os.Chmod(one, 0o600))
	await("a mode is changed")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
