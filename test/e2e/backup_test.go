package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// backupsConfigured saves the workspace and the host's state, all works at once.
const backupsConfigured = `
plugin "backup" "files" {
  command = "${path.plugins}/backup-files"
}

backup "nightly" {
  plugin    = "files"
  workspace = "main"
  interval  = "24h"
  drill     = "720h"
  retention {
    keep_last = 3
  }
}

backup "state" {
  plugin = "files"
  state  = true
}
`

// savedOnce says that all that is scheduled was done.
func savedOnce(s *apiv1.Status) bool {
	for _, b := range s.GetBackups() {
		if b.GetLastSave() == nil || b.GetLastVerification() == nil || b.GetLastDataVerification() == nil || b.GetSchedule() == "nightly" && b.GetLastDrill() == nil {
			return false
		}
	}
	return len(s.GetBackups()) == 2
}

type backups struct {
	Backups []struct{ ID, Schedule, State string }
}

// A workspace and the host's own state are saved as scheduled and by hand, and
// come back; what was acknowledged outlives the host; damage is told.
func TestBackup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.write("docs/a.md", "# A\n\nText.\n")
	s.configure(backupsConfigured)
	s.lock()
	h := s.up()
	h.waitFor("all that is scheduled", savedOnce)

	saved := decode[struct {
		Backup struct {
			ID    string
			Files int
		}
	}](t, s.must(0, "backup", "create", "main", "-o", "json"))
	id := saved.Backup.ID
	if saved.Backup.Files != 2 {
		t.Errorf("%d files were saved", saved.Backup.Files)
	}
	h.kill()
	h = s.up()
	if all := decode[backups](t, s.must(0, "backup", "list", "-o", "json")); len(all.Backups) != 3 || all.Backups[0].ID != id {
		t.Errorf("after the host was killed there are %+v", all)
	}
	if b := h.status().GetBackups(); len(b) != 2 || b[0].GetLastSave() == nil {
		t.Errorf("after the host was killed the schedules stand as %v", b)
	}

	s.write("docs/a.md", "# A\n\nSomebody was here.\n")
	if r := s.must(3, "backup", "diff", id); !strings.Contains(r.stdout, "docs/a.md") || strings.Contains(r.stdout, "README") {
		t.Errorf("%v", r)
	}
	s.must(2, "backup", "restore", id, "docs/a.md", "--in-place", "--overwrite")
	s.must(1, "backup", "restore", id, "docs/a.md", "--to", s.work)
	s.must(0, "backup", "restore", id, "docs/a.md", "--in-place", "--overwrite", "--yes")
	if text := s.read(filepath.Join(s.work, "docs/a.md")); text != "# A\n\nText.\n" {
		t.Errorf("restored %q", text)
	}
	s.must(0, "backup", "diff", id)

	state := decode[backups](t, s.must(0, "backup", "list", "--schedule", "state", "-o", "json")).Backups[0].ID
	out := filepath.Join(s.dir, "state-again")
	s.must(0, "backup", "restore", state, "--to", out)
	for _, name := range []string{"state/sop.db", "state/token.key", "config/config.hcl", "config/sop.lock.hcl"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 || info.Mode().Perm()&0o077 != 0 && strings.HasPrefix(name, "state") {
			t.Errorf("%s of the state: %v, %v", name, info, err)
		}
	}

	s.must(0, "backup", "verify", "--data")
	objects, err := filepath.Glob(filepath.Join(s.data, "state", "plugins", "backup.files", "repository", "objects", "*"))
	if err != nil || len(objects) < 3 {
		t.Fatalf("%v, %v", objects, err)
	}
	manifests, err := filepath.Glob(filepath.Join(s.data, "state", "plugins", "backup.files", "repository", "snapshots", "*.manifest"))
	if err != nil || len(manifests) != 3 {
		t.Fatalf("%v, %v", manifests, err)
	}
	for _, gone := range manifests[2:] {
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.must(1, "backup", "verify"); !strings.Contains(r.stdout, id) {
		t.Errorf("what is lost is not named: %v", r)
	}
	if r := s.must(1, "backup", "restore", id, "--to", filepath.Join(s.dir, "none")); !strings.Contains(r.stderr, "no such snapshot") {
		t.Errorf("%v", r)
	}
}

// A schedule that cannot save degrades the host, and says why.
func TestBackupFails(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write("README.md", readme)
	s.configure(strings.Replace(backupsConfigured, `backup-files"`, "backup-files\"\n  config {\n    max_files = 1\n  }", 1))
	s.write("docs/a.md", "# A\n\nText.\n")
	s.lock()
	h := s.up()
	status := h.waitFor("the failure", func(s *apiv1.Status) bool { return len(s.GetReasons()) > 0 && savesFailed(s) == 2 })
	if status.GetState() != "degraded" || !strings.Contains(strings.Join(status.GetReasons(), "\n"), "TOO_MANY_FILES") {
		t.Errorf("%s: %v", status.GetState(), status.GetReasons())
	}
	s.configure(backupsConfigured)
	h.waitFor("what is scheduled, after the configuration was mended", savedOnce)
}

func savesFailed(s *apiv1.Status) (n int) {
	for _, b := range s.GetBackups() {
		if len(b.GetProblems()) > 0 {
			n++
		}
	}
	return n
}
