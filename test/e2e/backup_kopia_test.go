package e2e_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Schedules, drills, restores and verification work with the plugin on kopia as
// with the other; its password stands nowhere but in its file.
func TestBackupKopia(t *testing.T) {
	t.Parallel()
	const password = "correct horse battery staple"
	s := newSite(t)
	s.write("README.md", readme)
	s.write("docs/a.md", "# A\n\nText.\n")
	file := filepath.Join(s.dir, "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.configure(strings.NewReplacer("backup-files\"", "backup-kopia\"\n  config {\n    password_file = \""+file+"\"\n  }").Replace(backupsConfigured))
	s.lock()
	h := s.up()
	h.waitFor("all that is scheduled", savedOnce)

	id := decode[struct{ Backup struct{ ID string } }](t, s.must(0, "backup", "create", "main", "-o", "json")).Backup.ID
	h.kill()
	s.up()
	s.write("docs/a.md", "# A\n\nSomebody was here.\n")
	if r := s.must(3, "backup", "diff", id); !strings.Contains(r.stdout, "docs/a.md") || strings.Contains(r.stdout, "README") {
		t.Errorf("%v", r)
	}
	s.must(0, "backup", "restore", id, "docs/a.md", "--in-place", "--overwrite", "--yes")
	if text := s.read(filepath.Join(s.work, "docs/a.md")); text != "# A\n\nText.\n" {
		t.Errorf("restored %q", text)
	}
	s.must(0, "backup", "pin", id)
	s.must(0, "backup", "verify", "--data")

	repository := filepath.Join(s.data, "state", "plugins", "backup.files", "repository")
	packs := 0
	err := filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), password) {
			t.Errorf("%s holds the password", path)
		}
		if strings.HasPrefix(path, repository+"/p/") {
			packs++
			return os.Truncate(path, 16)
		}
		return err
	})
	if err != nil || packs == 0 {
		t.Fatalf("%d packs, %v", packs, err)
	}
	if r := s.must(1, "backup", "verify"); !strings.Contains(r.stdout, "cannot be restored: docs/a.md") {
		t.Errorf("what is damaged is not named: %v", r)
	}
}
