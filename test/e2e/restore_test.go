package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// archives are the names in the directory of archives, one after the other.
func (s *site) archives() string {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.data, "logs", "audit"))
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// cp copies as an operator does.
func (s *site) cp(args ...string) {
	s.t.Helper()
	if out, err := exec.CommandContext(s.t.Context(), "cp", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("cp %v: %v\n%s", args, err, out)
	}
}

// notIntact says that the status tells of a log that does not verify.
func notIntact(s *apiv1.Status) bool {
	return s.GetState() == "degraded" && strings.Contains(strings.Join(s.GetReasons(), "\n"), "the audit log is not intact")
}

// An operator puts an older state back, and its archives are newer than it: the host
// says so, and archiving does away with none of them.
func TestOlderStateThanItsArchives(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure()
	s.lock()
	s.up().stop()
	state, older := filepath.Join(s.data, "state"), filepath.Join(s.dir, "older")
	s.cp("-a", state, older)
	h := s.up()
	s.must(0, "scan")
	s.must(0, "audit", "checkpoint")
	s.must(0, "audit", "archive", "--before", "0s")
	h.stop()
	newer := s.archives()
	content := s.read(filepath.Join(s.data, "logs", "audit", newer))

	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	s.cp("-a", older, state)
	if r := s.must(1, "audit", "verify"); !strings.Contains(r.stdout, newer) {
		t.Errorf("%v", r)
	}
	s.doctor(3).want(t, "audit", "failed", newer)
	h = s.up()
	h.waitFor("what the archive says", notIntact)
	s.must(0, "audit", "checkpoint")
	s.must(0, "audit", "archive", "--before", "0s")
	aside := "aside-1-" + newer
	if got := s.archives(); !strings.Contains(got, aside+" audit-000000000001-") {
		t.Errorf("there are %s", got)
	}
	if s.read(filepath.Join(s.data, "logs", "audit", aside)) != content {
		t.Error("the archive was changed")
	}
	if r := s.must(1, "audit", "verify"); !strings.Contains(r.stdout, aside) {
		t.Errorf("%v", r)
	}
	if r := s.must(0, "audit", "search", "--action", "audit.archive", "--outcome", "failure"); !strings.Contains(r.stdout, newer) {
		t.Errorf("%v", r)
	}
	if err := os.Rename(filepath.Join(s.data, "logs", "audit", aside), filepath.Join(s.dir, aside)); err != nil {
		t.Fatal(err)
	}
	s.must(0, "audit", "verify")
	h.waitFor("a log that is intact again", func(s *apiv1.Status) bool { return s.GetState() == "ok" })
	h.stop()
}

// An operator puts the host's saved state back as docs/backup.md says, over what a host
// left that was killed, whose write-ahead log would destroy it.
func TestStateRestoredOverAKilledHost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure(backupsConfigured)
	s.lock()
	h := s.up()
	h.waitFor("all that is scheduled", savedOnce)
	saved := decode[struct{ Backup struct{ ID string } }](t, s.must(0, "backup", "create", "--state", "-o", "json")).Backup.ID
	out := filepath.Join(s.dir, "state-again")
	s.must(0, "backup", "restore", saved, "--to", out)
	s.must(0, "scan")
	h.stop()
	h = s.up() // with a log that holds only what comes now
	for i := range 40 {
		s.must(0, "token", "issue", "--type", "operation", "--operation", "gap.read", "--ttl", "1h", "--reason", strings.Repeat(fmt.Sprint(i), 500))
	}
	h.kill()
	log := filepath.Join(s.data, "state", "sop.db-wal")
	if s.read(log) == "" {
		t.Fatal("the host has left no log")
	}

	files, err := filepath.Glob(filepath.Join(out, "state", "*"))
	if err != nil {
		t.Fatal(err)
	}
	s.cp(append(files, filepath.Join(s.data, "state"))...)
	left := s.read(log)
	s.must(0, "audit", "verify")
	s.doctor(0).want(t, "store", "ok", "is sound")
	h = s.up()
	if r := s.must(0, "audit", "verify"); !strings.Contains(r.stdout, "intact") {
		t.Errorf("%v", r)
	}
	if r := s.must(0, "audit", "search", "--action", "token.issued", "-o", "json"); strings.Contains(r.stdout, strings.Repeat("39", 500)) {
		t.Errorf("what the state did not have is there: %v", r)
	}
	if s.read(log+".aside") != left {
		t.Error("the log of the killed host was not put aside as it was")
	}
	if r := s.must(0, "audit", "search", "--action", "host.start", "-o", "json"); !strings.Contains(r.stdout, "sop.db-wal.aside") {
		t.Errorf("%v", r)
	}
	h.kill()
	h = s.up() // its own log it reads
	s.must(0, "audit", "verify")
	h.stop()
	s.doctor(0).want(t, "store", "ok", "is sound")
}
