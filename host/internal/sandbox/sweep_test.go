package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a killed host has left of a private copy is removed; what somebody holds,
// what has just been made and what is called otherwise is not.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{privatePrefix + "left", privatePrefix + "held", privatePrefix + "new", "other"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Join(path, "workspace"), 0o700), os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(filepath.Join(dir, privatePrefix+"new"), time.Time{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(filepath.Join(dir, privatePrefix+"held"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := unix.Flock(int(held.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "other"), filepath.Join(dir, privatePrefix+"link")); err != nil {
		t.Fatal(err)
	}
	if err := sweep(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{privatePrefix + "left": false, privatePrefix + "held": true, privatePrefix + "new": true, "other": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A run whose caller has gone away copies no workspace to its end, and leaves
// nothing.
func TestCanceledCopy(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	profile := DefaultProfile
	profile.Level = LevelNone
	out, err := runner().Run(ctx, Spec{Profile: profile, Workspace: workspace(t), Argv: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	if out.Status != Canceled || out.Refusal != nil {
		t.Errorf("%v, %v", out.Status, out.Refusal)
	}
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}
