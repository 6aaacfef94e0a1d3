package audit_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sop-host/sop/host/internal/audit"
)

// saved copies the database of a site that is closed, and returns what puts it back.
func (s *site) saved() (restore func()) {
	s.t.Helper()
	s.close()
	content, err := os.ReadFile(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.open()
	return func() {
		s.t.Helper()
		s.close()
		if err := os.WriteFile(s.path, content, 0o600); err != nil {
			s.t.Fatal(err)
		}
		s.open()
	}
}

// files are the names in the directory of archives.
func (s *site) files() (names []string) {
	s.t.Helper()
	entries, err := os.ReadDir(s.archives)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantStray wants one archive to be unknown to the database.
func (s *site) wantStray(file string) {
	s.t.Helper()
	if got, err := s.log.Strays(s.t.Context()); err != nil || len(got) != 1 || got[0] != file {
		s.t.Errorf("strays %v, %v", got, err)
	}
}

// wantFault wants the log not to verify, and an archive to say so.
func (s *site) wantFault(kind audit.FaultKind, archive string) {
	s.t.Helper()
	if f := s.verify().Fault; f == nil || f.Kind != kind || !strings.Contains(f.Detail, archive) {
		s.t.Errorf("found %+v, want %s because of %s", f, kind, archive)
	}
}

// Archives of what an older database does not have show that it is older, are never
// removed, and do not stand in the way of its own.
func TestArchivesOfANewerDatabase(t *testing.T) {
	s := newSite(t)
	s.fill(30)
	restore := s.saved()
	s.fill(70)
	newer := s.archive(old.Add(time.Hour), 100)
	if len(newer) != 1 || newer[0].Last != 100 {
		t.Fatalf("%+v", newer)
	}
	content, err := os.ReadFile(filepath.Join(s.archives, newer[0].File))
	if err != nil {
		t.Fatal(err)
	}

	restore()
	s.wantStray(newer[0].File)
	s.wantFault(audit.Truncated, newer[0].File)
	s.fill(30) // another history
	if again := s.archive(old.Add(time.Hour), 100); len(again) != 1 || again[0].Last != 60 {
		t.Fatalf("%+v", again)
	}
	aside := "aside-1-" + newer[0].File
	if kept, err := os.ReadFile(filepath.Join(s.archives, aside)); err != nil || !bytes.Equal(kept, content) {
		t.Errorf("the archive was not kept: %v; there are %v", err, s.files())
	}
	s.wantStray(aside)
	s.wantFault(audit.Truncated, aside)
	s.fill(60)
	s.wantFault(audit.Rewritten, aside)

	if err := os.WriteFile(filepath.Join(s.archives, newer[0].File), content, 0o600); err != nil { // somebody puts it back
		t.Fatal(err)
	}
	restore()
	s.archive(old.Add(time.Hour), 100)
	if _, err := os.Lstat(filepath.Join(s.archives, "aside-2-"+newer[0].File)); err != nil {
		t.Errorf("there are %v", s.files())
	}
}

// Who has put such archives elsewhere has an intact log again.
func TestArchivesOfANewerDatabaseMoved(t *testing.T) {
	s := newSite(t)
	s.fill(30)
	restore := s.saved()
	s.fill(70)
	s.archive(old.Add(time.Hour), 100)
	restore()
	if err := os.RemoveAll(s.archives); err != nil {
		t.Fatal(err)
	}
	s.intact(30)
	s.fill(10)
	s.archive(old.Add(time.Hour), 100)
	s.intact(41)
}

// An archive that this host's key has not signed says nothing about its log, and is
// kept all the same; so is one that cannot be read.
func TestArchivesOfOthers(t *testing.T) {
	other, s := newSite(t), newSite(t)
	other.fill(40)
	first := other.archive(old.Add(time.Hour), 20)[0]
	s.fill(20)
	if err := os.MkdirAll(s.archives, 0o700); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(filepath.Join(other.archives, first.File))
	if err != nil {
		t.Fatal(err)
	}
	const empty = "audit-000000000001-000000000007.jsonl.gz"
	for name, content := range map[string][]byte{first.File: foreign, empty: nil} {
		if err := os.WriteFile(filepath.Join(s.archives, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.intact(20)
	s.archive(old.Add(time.Hour), 20)
	s.intact(23)
	if got := strings.Join(s.files(), " "); got != "aside-1-"+empty+" aside-1-"+first.File+" "+first.File {
		t.Errorf("there are %s", got)
	}
}
