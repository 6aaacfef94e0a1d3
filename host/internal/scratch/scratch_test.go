package scratch

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// In the process that is to be killed nothing else runs.
func TestMain(m *testing.M) {
	if os.Getenv("SCRATCH_TEST_VICTIM") == "" {
		os.Exit(m.Run())
	}
	d, err := New("victim")
	if err == nil {
		err = os.WriteFile(d.Join("file"), nil, 0o600)
	}
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString(d.Path() + "\n")
	select {}
}

func TestDir(t *testing.T) {
	parent := t.TempDir()
	d, err := newIn(parent, "x")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.Path()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.MkdirAll(d.Join("a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := sweep(parent); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.Join("a", "b")); err != nil {
		t.Errorf("what is held was removed: %v", err)
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// What somebody else may want, or is just making, is left alone.
func TestSweepLeavesOthersAlone(t *testing.T) {
	parent := t.TempDir()
	gone := exec.CommandContext(t.Context(), "true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	remains := map[string]bool{
		birthName(gone.Process.Pid) + "1": processes() == "0", birthName(os.Getpid()) + "1": true, birthPrefix + "1-1-1": true,
		prefix + "left": false, birthPrefix + "old": false, birthPrefix + "new": true, "other": true,
	}
	for name := range remains {
		if err := os.MkdirAll(filepath.Join(parent, name, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Chtimes(filepath.Join(parent, birthPrefix+"old"), time.Time{}, time.Now().Add(-2*birthTime)),
		os.Symlink(filepath.Join(parent, "other"), filepath.Join(parent, prefix+"link")),
	); err != nil {
		t.Fatal(err)
	}
	if err := sweep(parent); err != nil {
		t.Fatal(err)
	}
	for name, want := range remains {
		if _, err := os.Stat(filepath.Join(parent, name, "sub")); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a process leaves that is killed is removed by the next at once.
func TestKilled(t *testing.T) {
	parent := t.TempDir()
	victim := exec.CommandContext(t.Context(), os.Args[0])
	victim.Env = append(os.Environ(), "SCRATCH_TEST_VICTIM=1", "TMPDIR="+parent)
	out, err := victim.StdoutPipe()
	if err == nil {
		err = victim.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	if !said.Scan() {
		t.Fatal("the victim says nothing")
	}
	if err := sweep(parent); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(said.Text(), "file")); err != nil {
		t.Fatalf("what a living process holds was removed: %v", err)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait() // it was killed
	if err := sweep(parent); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}
