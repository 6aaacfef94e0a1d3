package halt

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var drill = State{At: time.Unix(9, 0).UTC(), By: "uid:1", Reason: "a drill"}

func TestMark(t *testing.T) {
	m := Mark{filepath.Join(t.TempDir(), "emergency")}
	if m.Check() != nil || m.Read() != nil || m.Lift(Lift{}) != nil || m.Lifted() != nil {
		t.Error("there is a stop to begin with")
	}
	for range 2 { // with room and, since that is used up, without
		if err := m.Set(drill); err != nil {
			t.Fatal(err)
		}
		other := State{By: "uid:2"}
		if err := m.Set(other); err != nil || *m.Read() != drill || m.Check() == nil {
			t.Errorf("%v, mark %+v", err, m.Read())
		}
		recorded := drill
		recorded.Recorded = true
		if err := m.Update(&recorded); err != nil || *m.Read() != recorded {
			t.Errorf("%v, mark %+v", err, m.Read())
		}
		if err := errors.Join(m.Lift(Lift{By: "uid:3"}), m.Check()); err != nil || m.Lifted().By != "uid:1" || m.Lifted().Lifted.By != "uid:3" {
			t.Errorf("%v, lifted %+v", err, m.Lifted())
		}
		if err := errors.Join(m.Forget(), m.Forget()); err != nil || m.Lifted() != nil {
			t.Errorf("%v, lifted %+v", err, m.Lifted())
		}
	}
	if err := os.WriteFile(m.stopped(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m.Check() == nil || !strings.Contains(m.Read().Reason, "cannot be read") {
		t.Errorf("a mark that cannot be read is %+v", m.Read())
	}
}

// The mark can be set on a disk that is full to the last byte, in the room that was
// kept for it, and only in that.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("cannot mount a file system here (root can): %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	m := Mark{filepath.Join(dir, "emergency")}
	for range 2 { // the second finds what it needs
		if err := m.Reserve(); err != nil {
			t.Fatal(err)
		}
	}
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = ballast.Write(make([]byte, 4096))
	}
	if err := ballast.Close(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := m.Set(drill); err != nil || *m.Read() != drill {
		t.Fatalf("%v, mark %+v", err, m.Read())
	}
	if err := os.Remove(m.stopped()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "more"), make([]byte, 4096), 0o600); err != nil { // what the mark took
		t.Fatal(err)
	}
	if err := m.Set(drill); !errors.Is(err, unix.ENOSPC) || m.Check() != nil {
		t.Errorf("without room: %v", err)
	}
	left, err := os.ReadDir(m.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	if err := m.Reserve(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("room was kept where there is none: %v", err)
	}
}
