package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// fill leaves no room on the file system beneath a directory; the result makes
// room again.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for piece := make([]byte, 64<<10); err == nil && len(piece) > 0; {
		if _, err = f.Write(piece); err != nil {
			piece, err = piece[:len(piece)/2], nil // what still fits
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

// A host whose disk is full does nothing that it cannot record, lets people look,
// says that it is not ready, and goes on by itself when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := os.Mkdir(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", s.data, "tmpfs", 0, "size=32m,mode=0700"); err != nil {
		t.Skipf("cannot mount a file system here (root can): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(s.data, 0); err != nil {
			t.Error(err)
		}
	})
	s.write("README.md", readme)
	s.configure()
	s.lock()
	h := s.up()
	issue := []string{"token", "issue", "--type", "test", "--operation", "try", "--config", s.conf}
	s.must(0, issue...)

	empty := fill(t, s.data)
	// What is there of the database's log may yet hold a record or two.
	refused := eventually(patience, func() bool {
		r := s.sop(issue...)
		_, status := h.curl("/readyz")
		return r.code != 0 && strings.Contains(r.stderr, "nothing is done that cannot be recorded") && status == "503"
	})
	if !refused {
		t.Error("on a full disk tokens are issued, or the host is ready")
	}
	if st := h.status(); st.GetState() != "degraded" || !strings.Contains(strings.Join(st.GetReasons(), " "), "cannot be written") {
		t.Errorf("%s: %v", st.GetState(), st.GetReasons())
	}
	s.must(0, "token", "list", "--config", s.conf)

	empty()
	if !eventually(patience, func() bool { _, status := h.curl("/readyz"); return status == "200" }) {
		t.Error("there is room, and the host is not ready")
	}
	h.waitFor("all is well", func(st *apiv1.Status) bool { return st.GetState() == "ok" })
	s.must(0, issue...)
	s.must(0, "audit", "verify", "--config", s.conf)
	if found := s.must(0, "audit", "search", "--action", "store.writable", "-o", "json", "--config", s.conf).stdout; !strings.Contains(found, `"refused_since"`) {
		t.Errorf("the log does not say since when nothing was written: %s", found)
	}
	h.stop()
}
