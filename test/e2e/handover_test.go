package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// handOver has what the loop makes handed over in a mode, with a post-check.
func (s *site) handOver(mode, check string) {
	s.t.Helper()
	conf := strings.Replace(s.loopConfig("auto"), `workspace "main" {`, `tasks {
  attempts = 1
}

workspace "main" {
  integration {
    mode   = "`+mode+`"
    branch = "sop/fix"
  }
  verify "documented" {
    command = ["sh", "-c", "`+check+`"]
  }
`, 1)
	s.put(s.conf, strings.Replace(conf, "  approval =", "  post_check = [\"documented\"]\n  approval =", 1))
}

// patchFiles are the files that were written for `git am`.
func (s *site) patchFiles() []string {
	s.t.Helper()
	all, err := filepath.Glob(filepath.Join(s.data, "file_management", "*", "*.patch"))
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// What goes to a branch or a patch file is confirmed on what is there: the detector
// finds the gap gone, the post-check passes, and the record says so. The commit
// names its audit record.
func TestHandOver(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"branch", "patch_file"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := loopSite(t, "auto")
			s.handOver(mode, "grep -q '^// Add ' sum.go")
			h := s.up()
			task := h.awaitTask("done")
			if want := "confirmed on what was handed over, before that: documented, gap"; !strings.Contains(task.Reason, want) {
				t.Errorf("the task is done because %q, which does not say %q", task.Reason, want)
			}
			if now := s.source(); now != undocumented || s.git("status", "--porcelain") != "" {
				t.Errorf("the work tree was touched:\n%s", now)
			}
			if mode == "patch_file" {
				files := s.patchFiles()
				if len(files) != 1 {
					t.Fatalf("the patch files are %q", files)
				}
				s.git("am", "-q", files[0])
				if now := s.source(); !strings.Contains(now, "// Add ") {
					t.Errorf("applied, the file is:\n%s", now)
				}
				return
			}
			if now := s.git("show", "sop/fix:sum.go"); !strings.Contains(now, "// Add ") {
				t.Errorf("on the branch the file is:\n%s", now)
			}
			seq, hash, ok := strings.Cut(strings.TrimSpace(s.git("log", "-1", "--format=%(trailers:key=Sop-Audit,valueonly)", "sop/fix")), " sha256:")
			record := h.must(0, "audit", "search", "--filter", "seq = "+seq, "-o", "json").stdout
			if !ok || !strings.Contains(record, hash) || !strings.Contains(record, "patch.integrating") || !strings.Contains(record, task.Patch) {
				t.Errorf("the commit names record %s with hash %s, which is %s", seq, hash, record)
			}
			h.must(0, "patch", "rollback", task.Patch)
			if left := s.git("branch", "--list", "sop/fix"); left != "" {
				t.Errorf("after the rollback there is %q", left)
			}
		})
	}
}

// What fails the post-check is not handed over, and the task is told why.
func TestHandOverFails(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"branch", "patch_file"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := loopSite(t, "auto")
			s.handOver(mode, "! grep -q '^// Add ' sum.go")
			h := s.up()
			if dead := h.awaitTask("dead"); !strings.Contains(dead.Feedback, "post-check failed: documented: exit code 1") {
				t.Errorf("%+v", dead)
			}
			if left := s.git("branch", "--list", "sop/*"); left != "" || len(s.patchFiles()) > 0 {
				t.Errorf("there is the branch %q, and the files %q", left, s.patchFiles())
			}
			if now := s.source(); now != undocumented {
				t.Errorf("the file is:\n%s", now)
			}
		})
	}
}
