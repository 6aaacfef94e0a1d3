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

// fullSite is a site whose data lie on a small file system of their own.
func fullSite(t *testing.T) *site {
	t.Helper()
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
	return s
}

// A host whose disk is full does nothing that it cannot record, lets people look,
// says that it is not ready, and goes on by itself when there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := fullSite(t)
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

// What fills the disk may be what is to be stopped: the stop is marked all the same,
// and recorded when there is room. Where it cannot even be marked, it lasts as long as
// the host, which says so.
func TestEmergencyStopOnAFullDisk(t *testing.T) {
	t.Parallel()
	s := fullSite(t)
	s.configure(shellComponent("loop", "echo up; exec sleep 1000", `readiness { log = "up" }`))
	s.lock()
	stop := []string{"emergency-stop", "--yes", "--reason", "it fills the disk", "--config", s.conf}
	recorded := func(action string) bool {
		found := s.must(0, "audit", "search", "--action", action, "-o", "json", "--config", s.conf).stdout
		return strings.Contains(found, action) && (action == "host.resume" || strings.Contains(found, "it fills the disk"))
	}
	stopped := func(st *apiv1.Status) bool {
		return st.GetEmergency().GetReason() == "it fills the disk" && component(st, "loop").GetPid() == 0
	}

	h := s.up()
	h.waitFor("the component runs", stateOf("loop", "ready"))
	empty := fill(t, s.data)
	t.Log(s.must(0, stop...).stderr) // what is there of the database's log may yet hold the record
	h.waitFor("stopped", stopped)
	h.kill()
	empty()
	h = s.up()
	h.waitFor("still stopped", stopped)
	if !recorded("host.emergency_stop") {
		t.Error("the stop was never recorded")
	}
	s.must(0, "resume", "--config", s.conf)
	h.waitFor("the component runs again", stateOf("loop", "ready"))

	if err := os.Remove(filepath.Join(s.data, "state", "emergency", ".room")); err != nil {
		t.Errorf("no room was kept for the next stop: %v", err)
	}
	empty = fill(t, s.data)
	if said := s.must(1, stop...).stderr; !strings.Contains(said, "stays so while this host runs") {
		t.Errorf("the stop that cannot be marked says %q", said)
	}
	h.waitFor("stopped again", stopped)
	s.must(5, "resume", "--config", s.conf)
	empty()
	s.must(0, "resume", "--config", s.conf)
	h.waitFor("the component runs at last", stateOf("loop", "ready"))
	if !recorded("host.resume") {
		t.Error("the end of the stop was not recorded")
	}
	s.must(0, "audit", "verify", "--config", s.conf)
	h.stop()
}
