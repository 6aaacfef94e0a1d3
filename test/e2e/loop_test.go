package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// loopConfig governs one workspace with everything that the loop needs; approval
// is who lets patches through.
func (s *site) loopConfig(approval string) string {
	return s.config(`
plugin "sandbox" "scaffold" {
  command = "${path.plugins}/sandbox-scaffold"
}

plugin "backup" "files" {
  command = "${path.plugins}/backup-files"
}

rule "docs" {
  match {
    rule = "docs.go.exported"
  }
  sandbox  = "scaffold"
  verify   = ["gap"] # building needs a warm cache, which a site has not
  approval = "` + approval + `"
}
`)
}

const undocumented = `// Package sum adds.
package sum

func Add(a, b int) int { return a + b }
`

// task is what `sop task list -o json` says of one.
type taskLine struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Patch    string `json:"patch"`
	Reason   string `json:"reason"`
	Feedback string `json:"feedback"`
}

// tasks lists all tasks, whatever their state.
func (h *host) tasks() []taskLine {
	h.t.Helper()
	r := h.sop("task", "list", "--state", "all", "--limit", "0", "-o", "json", "--socket", h.socket())
	var list struct {
		Tasks []taskLine `json:"tasks"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || r.code != 0 {
		h.t.Fatalf("%v\n%v", err, r)
	}
	return list.Tasks
}

// awaitTask waits until there is a task in the state.
func (h *host) awaitTask(state string) taskLine {
	h.t.Helper()
	var found taskLine
	var all []taskLine
	if !eventually(3*patience, func() bool {
		all = h.tasks()
		for _, t := range all {
			if t.State == state {
				found = t
				return true
			}
		}
		return false
	}) {
		h.t.Fatalf("no task is %s; the tasks are %+v", state, all)
	}
	return found
}

// gitSite is a site whose workspace is a git repository.
func gitSite(t *testing.T) *site {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	s := newSite(t)
	s.write("README.md", readme)
	s.git("init", "-q")
	return s
}

// loopSite is a Go module with one gap, under git, and a host that closes it.
func loopSite(t *testing.T, approval string) *site {
	t.Helper()
	s := gitSite(t)
	s.write("go.mod", "module example.com/sum\n\ngo 1.25\n")
	s.write("sum.go", undocumented)
	s.write("sum_test.go", "package sum\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif Add(1, 2) != 3 {\n\t\tt.Error(\"no\")\n\t}\n}\n")
	s.git("add", "-A")
	s.git("commit", "-qm", "as it was")
	s.put(s.conf, s.loopConfig(approval))
	s.lock()
	return s
}

// git runs git in the workspace.
func (s *site) git(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "git", append([]string{"-C", s.work, "-c", "user.name=test", "-c", "user.email=test@localhost"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// source is what stands in the file with the gap.
func (s *site) source() string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.work, "sum.go"))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// A gap that a rule matches is closed without anybody's help: scaffolded,
// verified, approved by the rule, backed up, integrated and confirmed; and it can
// be undone.
func TestLoopByItself(t *testing.T) {
	s := loopSite(t, "auto")
	h := s.up()
	task := h.awaitTask("done")
	if now := s.source(); !strings.Contains(now, "// Add ") || !strings.Contains(now, "func Add(a, b int) int") {
		t.Errorf("the file is now:\n%s", now)
	}
	if changed := strings.TrimSpace(s.git("status", "--porcelain")); changed != "M sum.go" {
		t.Errorf("git status says %q", changed)
	}
	if gaps := s.gaps(); len(gaps) != 0 {
		t.Errorf("gaps are left: %v", places(gaps))
	}
	if r := h.sop("backup", "list", "-o", "json", "--socket", h.socket()); r.code != 0 || !strings.Contains(r.stdout, task.Patch) {
		t.Errorf("no backup of the patch: %v", r)
	}
	log := h.sop("audit", "search", "--resource", "patch/"+task.Patch, "-o", "json", "--socket", h.socket())
	for _, action := range []string{"patch.proposed", "patch.verified", "patch.approved", "patch.integrating", "patch.integrated"} {
		if !strings.Contains(log.stdout, action) {
			t.Errorf("no record of %s: %v", action, log)
		}
	}
	if r := h.sop("audit", "verify", "--socket", h.socket()); r.code != 0 {
		t.Errorf("%v", r)
	}

	if r := h.sop("patch", "rollback", task.Patch, "--socket", h.socket()); r.code != 0 {
		t.Fatalf("%v", r)
	}
	if now := s.source(); now != undocumented {
		t.Errorf("after the rollback the file is:\n%s", now)
	}
	h.awaitTask("rolled_back")
}

// What fails a post-check is taken back before anybody meets it.
func TestLoopPostCheckFails(t *testing.T) {
	s := loopSite(t, "auto")
	conf := strings.Replace(s.loopConfig("auto"), `workspace "main" {`, `tasks {
  attempts = 1
}

workspace "main" {
  verify "undocumented" {
    command = ["sh", "-c", "! grep '^// Add ' sum.go"]
  }
`, 1)
	s.put(s.conf, strings.Replace(conf, "  approval =", "  post_check = [\"undocumented\"]\n  approval =", 1))
	h := s.up()
	if dead := h.awaitTask("dead"); !strings.Contains(dead.Feedback, "post-check failed: undocumented: exit code 1") {
		t.Errorf("%+v", dead)
	}
	if now := s.source(); now != undocumented {
		t.Errorf("the file is now:\n%s", now)
	}
	if changed := s.git("status", "--porcelain"); changed != "" {
		t.Errorf("git status says %q", changed)
	}
}

// Where a rule asks for somebody's approval, nothing is changed before it.
func TestLoopWaitsForApproval(t *testing.T) {
	s := loopSite(t, "one")
	h := s.up()
	task := h.awaitTask("awaiting_approval")
	if now := s.source(); now != undocumented {
		t.Fatalf("the file was changed before anybody approved:\n%s", now)
	}
	r := h.sop("patch", "show", task.Patch, "--socket", h.socket())
	for _, want := range []string{"+// Add ", "made by          sandbox.scaffold", "scaffold         go-doc", "docs.go.exported in sum.go: 1 before, 0 after", "coverage         not measured: "} {
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in %v", want, r)
		}
	}
	h.packaged(task.ID)
	if r := h.sop("patch", "approve", task.Patch, "--socket", h.socket()); r.code != 0 {
		t.Fatalf("%v", r)
	}
	h.awaitTask("done")
	if now := s.source(); !strings.Contains(now, "// Add ") {
		t.Errorf("the file is now:\n%s", now)
	}
}

// packaged looks at what a generator is told of the task of the loop.
func (h *host) packaged(id string) {
	h.t.Helper()
	var answer struct {
		Package struct {
			Verify   []struct{ Name, Runner string }
			Scaffold struct {
				Candidates []struct{ Name, Version, SHA256 string }
			}
		}
	}
	text := h.must(0, "task", "show", id, "-o", "json").stdout
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		h.t.Fatal(err)
	}
	p := answer.Package
	if len(p.Verify) != 2 || p.Verify[0].Runner != "protected" || p.Verify[1].Runner != "gap" {
		h.t.Errorf("verify steps %+v", p.Verify)
	}
	if c := p.Scaffold.Candidates; len(c) == 0 || c[0].Name != "go-doc" || c[0].Version == "" || len(c[0].SHA256) != 64 {
		h.t.Errorf("scaffolds %+v", c)
	}
}

// What is denied is not integrated.
func TestLoopDenied(t *testing.T) {
	s := loopSite(t, "one")
	h := s.up()
	task := h.awaitTask("awaiting_approval")
	if r := h.sop("patch", "deny", task.Patch, "--reason", "says nothing new", "--socket", h.socket()); r.code != 0 {
		t.Fatalf("%v", r)
	}
	if denied := h.awaitTask("denied"); denied.Reason != "says nothing new" {
		t.Errorf("%+v", denied)
	}
	if now := s.source(); now != undocumented {
		t.Errorf("the file is now:\n%s", now)
	}
}

// `sop fix` takes one gap through the loop by hand.
func TestFix(t *testing.T) {
	s := loopSite(t, "one")
	s.put(s.conf, strings.Replace(s.loopConfig("one"), "  sandbox  = \"scaffold\"\n", "", 1)) // nobody works on it by itself
	h := s.up()
	gap := find(t, s.gaps(), "docs.go.exported", "Add")

	r := h.sop("fix", gap.GetId(), "--sandbox", "scaffold", "--dry-run", "--socket", h.socket())
	if r.code != 0 || !strings.Contains(r.stdout, "+// Add ") {
		t.Fatalf("%v", r)
	}
	if now := s.source(); now != undocumented {
		t.Fatalf("a dry run changed the file:\n%s", now)
	}

	r = h.sop("fix", gap.GetId(), "--sandbox", "scaffold", "--yes", "--socket", h.socket())
	if r.code != 0 {
		t.Fatalf("%v", r)
	}
	if !strings.Contains(r.stdout, "+// Add ") {
		t.Errorf("what is approved is not shown: %v", r)
	}
	for _, state := range []string{"running", "proposed", "verifying", "awaiting_approval", "done"} {
		if !strings.Contains(r.stdout, state) {
			t.Errorf("nothing is said of %s: %v", state, r)
		}
	}
	if now := s.source(); !strings.Contains(now, "// Add ") {
		t.Errorf("the file is now:\n%s", now)
	}
}

// Without a plugin there is nothing to try, nothing is made, and what is named is there.
func TestFixWithoutPlugin(t *testing.T) {
	s := loopSite(t, "one")
	conf := s.loopConfig("one")
	s.put(s.conf, strings.Replace(conf, `rule = "docs.go.exported"`, `rule = "nothing"`, 1))
	h := s.up()
	gap := find(t, s.gaps(), "docs.go.exported", "Add")
	for _, flags := range [][]string{{"--dry-run"}, {"--check"}, nil} {
		r := h.sop(append([]string{"fix", gap.GetId(), "--socket", h.socket()}, flags...)...)
		if r.code == 0 || !strings.Contains(r.stderr, "no rule names a sandbox plugin for gap "+gap.GetId()) {
			t.Errorf("%v: %v", flags, r)
		}
	}
	if r := h.sop("fix", gap.GetId(), "--sandbox", "scaffold", "--dry-run", "--socket", h.socket()); r.code != 0 || strings.Contains(r.stdout+r.stderr, "task") {
		t.Errorf("%v", r)
	}
	if all := h.tasks(); len(all) != 0 {
		t.Errorf("tasks were made: %+v", all)
	}
}
