package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rollbackAnswer is what `sop patch rollback -o json` says.
type rollbackAnswer struct {
	Patch struct {
		State string `json:"state"`
		Token string `json:"token"`
	} `json:"patch"`
	Source string   `json:"source"`
	Backup string   `json:"backup"`
	Notes  []string `json:"notes"`
}

// integratedPatch brings up a host that closes the one gap, and returns the task.
func integratedPatch(t *testing.T) (*host, taskLine) {
	t.Helper()
	s := loopSite(t, "auto")
	h := s.up()
	return h, h.awaitTask("done")
}

// each calls fn with every regular file beneath a directory.
func (s *site) each(dir string, fn func(path string) error) {
	s.t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		n++
		return fn(path)
	})
	if err != nil || n == 0 {
		s.t.Fatalf("%d files beneath %s, %v", n, dir, err)
	}
}

// journal is where the old files of a patch lie beside the workspace.
func (s *site) journal(patch string) string { return filepath.Join(s.work, ".git", "sop", patch) }

// loseSlots removes the copies of the journal and leaves its plan.
func (s *site) loseSlots(patch string) {
	s.t.Helper()
	s.each(s.journal(patch), func(path string) error {
		if strings.HasSuffix(path, ".json") {
			return nil
		}
		return os.Remove(path)
	})
}

// flip damages the middle byte of a file.
func flip(path string) error {
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return err
	}
	text[len(text)/2] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// Without the journal's copies the backup that was made before the integration
// brings the old files back; the answer and the audit log say so, and under which
// token.
func TestRollbackFromTheBackup(t *testing.T) {
	t.Parallel()
	h, task := integratedPatch(t)
	h.loseSlots(task.Patch)
	answer := decode[rollbackAnswer](t, h.must(0, "patch", "rollback", task.Patch, "--reason", "not so", "-o", "json"))
	if answer.Patch.State != "rolled_back" || !strings.HasPrefix(answer.Source, "backup ") || answer.Backup == "" {
		t.Errorf("%+v", answer)
	}
	if now := h.source(); now != undocumented {
		t.Errorf("after the rollback the file is:\n%s", now)
	}
	h.awaitTask("rolled_back")
	record := h.must(0, "audit", "search", "--action", "patch.rolled_back", "-o", "json").stdout
	for _, want := range []string{answer.Source, answer.Backup, answer.Patch.Token, `"reason": "not so"`} {
		if want == "" || !strings.Contains(record, want) {
			t.Errorf("the record does not name %q: %s", want, record)
		}
	}
	if token := h.must(0, "token", "show", answer.Patch.Token, "-o", "json").stdout; !strings.Contains(token, `"integration"`) || !strings.Contains(token, `"completed"`) {
		t.Errorf("it was done under %s", token)
	}
	// What the rollback replaced is in the snapshot that it names.
	to := filepath.Join(h.dir, "restored")
	h.must(0, "backup", "restore", answer.Backup, "--to", to)
	if saved := h.site.read(filepath.Join(to, "sum.go")); !strings.Contains(saved, "// Add ") {
		t.Errorf("it saved:\n%s", saved)
	}
}

// Where every copy is damaged nothing is changed, and it says what is wrong with
// each; one that is whole again does.
func TestRollbackWithoutACopy(t *testing.T) {
	t.Parallel()
	h, task := integratedPatch(t)
	integrated := h.source()
	h.loseSlots(task.Patch)
	h.each(filepath.Join(h.data, "file_management", "patches"), flip)
	objects, err := filepath.Glob(filepath.Join(h.data, "state", "plugins", "*", "repository", "objects"))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%q, %v", objects, err)
	}
	h.each(objects[0], flip)
	r := h.sop("patch", "rollback", task.Patch)
	for _, want := range []string{"cannot be put back", "journal: the copy of sum.go is gone", "backup ", "content of the patch: sum.go: "} {
		if r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("it does not say %q: %v", want, r)
		}
	}
	if now := h.source(); now != integrated {
		t.Errorf("it was refused, and the file is:\n%s", now)
	}
	h.each(objects[0], flip) // as it was
	h.must(0, "patch", "rollback", task.Patch)
	if now := h.source(); now != undocumented {
		t.Errorf("after the rollback the file is:\n%s", now)
	}
}

// Edits are merged only when asked for, and what is there is saved before.
func TestRollbackMergesAndSaves(t *testing.T) {
	t.Parallel()
	h, task := integratedPatch(t)
	edited := h.source() + "\n// Sub is somebody's.\nfunc Sub(a, b int) int { return a - b }\n"
	h.write("sum.go", edited)
	if r := h.sop("patch", "rollback", task.Patch); r.code == 0 || !strings.Contains(r.stderr, "--merge") {
		t.Errorf("%v", r)
	}
	answer := decode[rollbackAnswer](t, h.must(0, "patch", "rollback", task.Patch, "--merge", "-o", "json"))
	now := h.source()
	if strings.Contains(now, "// Add ") || !strings.Contains(now, "func Sub") || answer.Backup == "" {
		t.Errorf("%+v, and the file is:\n%s", answer, now)
	}
	to := filepath.Join(h.dir, "restored")
	h.must(0, "backup", "restore", answer.Backup, "--to", to)
	if saved := h.site.read(filepath.Join(to, "sum.go")); saved != edited {
		t.Errorf("it saved:\n%s", saved)
	}
}
