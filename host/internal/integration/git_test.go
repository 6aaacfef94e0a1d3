package integration

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// git runs git in a directory, as somebody else would.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Me", "GIT_AUTHOR_EMAIL=me@x", "GIT_COMMITTER_NAME=Me", "GIT_COMMITTER_EMAIL=me@x")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

var (
	gitBefore = files{"a.txt": "a1\n", "run.sh": "0755:#!/bin/sh\n", "gone": "g\n", "sub/b.txt": "b1\n", "link": "->a.txt", "mode": "m\n"}
	gitAfter  = files{"a.txt": "a2\n", "run.sh": "0755:#!/bin/sh\nx\n", "sub/b.txt": "b1\n", "sub/new file": "n\n", "link": "->run.sh", "mode": "0755:m\n"}
)

func gitFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, gitBefore, gitAfter)
	git(t, f.root, "init", "-q", "-b", "main")
	git(t, f.root, "add", ".")
	git(t, f.root, "commit", "-q", "-m", "first")
	return f
}

func TestWorkTreeOfGit(t *testing.T) {
	f := gitFixture(t)
	i := New(Options{})
	if _, err := i.Integrate(t.Context(), f.request()); err != nil {
		t.Fatal(err)
	}
	f.want(t, f.new, "integrated")
	if got, want := git(t, f.root, "status", "--porcelain"), " M a.txt\n D gone\n M link\n M mode\n M run.sh\n?? \"sub/new file\""; got != want {
		t.Errorf("status\n%s\nwant\n%s", got, want)
	}
	git(t, f.root, "clean", "-xffdq", "--exclude=sub") // it keeps the journal
	if _, err := i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1"}); err != nil {
		t.Fatal(err)
	}
	if got := git(t, f.root, "status", "--porcelain"); got != "" {
		t.Errorf("status after the rollback: %s", got)
	}
}

func TestDirty(t *testing.T) {
	edit := func(name, text string) func(t *testing.T, root string) {
		return func(t *testing.T, root string) { must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644)) }
	}
	for name, c := range map[string]struct {
		edit  func(t *testing.T, root string)
		dirty bool
	}{
		"clean":        {func(*testing.T, string) {}, false},
		"another file": {edit("sub/b.txt", "mine\n"), false},
		"a file":       {edit("a.txt", "mine\n"), true},
		"staged":       {func(t *testing.T, root string) { edit("a.txt", "mine\n")(t, root); git(t, root, "add", "a.txt") }, true},
		"never added":  {func(t *testing.T, root string) { git(t, root, "rm", "-q", "--cached", "a.txt") }, true},
		"configured program": {func(t *testing.T, root string) {
			git(t, root, "config", "core.fsmonitor", "touch "+root+"/pwned; false")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := gitFixture(t)
			c.edit(t, f.root)
			// The patch is made of the files as they are.
			f.set, f.old = changes(t, f.root, f.after), tableOf(t, f.root)
			var mine []sandbox.Change
			for _, one := range f.set.Changes {
				if one.Path != "sub/b.txt" {
					mine = append(mine, one)
				}
			}
			f.set.Changes = mine
			req := f.request()
			_, err := New(Options{}).Integrate(t.Context(), req)
			if !c.dirty {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(f.root, "pwned")); err == nil {
					t.Error("git ran what the repository configures")
				}
				return
			}
			wantReason(t, err, ReasonDirty)
			f.want(t, f.old, "dirty")
			req.AllowDirty = true
			if result, err := New(Options{}).Integrate(t.Context(), req); err != nil || len(result.Notes) != 1 || !strings.Contains(result.Notes[0], "a.txt had edits") {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

// What one patch has left in the work tree does not keep the next one out.
func TestOwnEditsAreNotDirty(t *testing.T) {
	f := gitFixture(t)
	i := New(Options{})
	if _, err := i.Integrate(t.Context(), f.request()); err != nil {
		t.Fatal(err)
	}
	next := files{"a.txt": "a3\n"}.write(t, t.TempDir())
	set := &sandbox.ChangeSet{Changes: []sandbox.Change{{Path: "a.txt", Op: sandbox.OpModify, Mode: 0o644, Size: 3, SHA256: hashOf("a3\n"), OldSHA256: hashOf("a2\n"), OldMode: 0o644}}}
	if _, err := i.Integrate(t.Context(), Request{Root: f.root, ID: "p2", Set: set, Content: in(next)}); err != nil {
		t.Fatal(err)
	}
	// The first cannot go while the second stands on it.
	_, err := i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1"})
	wantReason(t, err, ReasonFilesChanged)
	for _, id := range []string{"p2", "p1"} {
		if _, err := i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	f.want(t, f.old, "both rolled back")
}

func TestBranch(t *testing.T) {
	for _, where := range []string{"", "deep/er"} {
		t.Run("workspace "+where, func(t *testing.T) {
			f := newFixture(t, gitBefore, gitAfter)
			top := f.root
			if where != "" {
				top = t.TempDir()
				f.root = filepath.Join(top, where)
				gitBefore.write(t, f.root)
			}
			git(t, top, "init", "-q", "-b", "main")
			git(t, top, "add", ".")
			git(t, top, "commit", "-q", "-m", "first")
			must(t, os.WriteFile(filepath.Join(f.root, "a.txt"), []byte("an edit of mine\n"), 0o644)) // which is not looked at
			edited := tableOf(t, f.root)
			hook := filepath.Join(top, ".git/hooks/reference-transaction")
			must(t, os.WriteFile(hook, []byte("#!/bin/sh\ntouch "+top+"/pwned\n"), 0o755))

			i := New(Options{})
			req := f.request()
			req.Mode, req.Branch, req.Message, req.Author = Branch, "sop/t1", "Fix it\n\nAt length.", "Fixer <fixer@x>"
			req.Trailers = []Trailer{{"Sop-Task", "t1"}, {"Sop-Patch", "p1"}, {"Sop-Audit", "42"}}
			wrong := errors.New("the tests fail")
			req.Check = func(_ context.Context, tree string) error {
				if d := difference(f.new, tableOf(t, tree)); d != "" {
					t.Errorf("what is looked at differs:\n%s", d)
				}
				return wrong
			}
			if _, err := i.Integrate(t.Context(), req); !errors.Is(err, wrong) {
				t.Errorf("%v", err)
			}
			if got := git(t, top, "branch", "--list", "sop/*"); got != "" {
				t.Errorf("the check has failed, and there is the branch %q", got)
			}
			wrong = nil
			result, err := i.Integrate(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(top, "pwned")); err == nil {
				t.Error("a hook was run")
			}
			must(t, os.Remove(hook))
			f.want(t, edited, "the work tree is not touched")
			if git(t, top, "rev-parse", "sop/t1") != result.Commit || git(t, top, "rev-parse", "sop/t1^") != git(t, top, "rev-parse", "main") {
				t.Errorf("%+v", result)
			}
			if got := git(t, top, "log", "-1", "--format=%an <%ae>%n%B", "sop/t1"); got != "Fixer <fixer@x>\nFix it\n\nAt length.\n\nSop-Task: t1\nSop-Patch: p1\nSop-Audit: 42\n" {
				t.Errorf("%q", got)
			}
			if got := git(t, top, "status", "--porcelain"); got != " M "+filepath.Join(where, "a.txt") {
				t.Errorf("status %q", got)
			}
			checkout := t.TempDir()
			git(t, top, "worktree", "add", "-q", filepath.Join(checkout, "w"), "sop/t1")
			if d := difference(f.new, tableOf(t, filepath.Join(checkout, "w", where))); d != "" {
				t.Error(d)
			}
			git(t, top, "worktree", "remove", "--force", filepath.Join(checkout, "w"))
			if result, err := i.Integrate(t.Context(), req); err != nil || !result.Again {
				t.Errorf("a second time: %+v, %v", result, err)
			}
			next := req
			next.ID = "p2"
			_, err = i.Integrate(t.Context(), next) // the same change, on top of itself
			wantReason(t, err, ReasonBaseMoved)

			back := RollbackRequest{Root: f.root, ID: "p1", Mode: Branch, Branch: "sop/t1"}
			git(t, top, "update-ref", "refs/heads/on-top", git(t, top, "commit-tree", "-p", "sop/t1", "-m", "later", "sop/t1^{tree}"))
			onTop := back
			onTop.Branch = "on-top"
			_, err = i.Rollback(t.Context(), onTop)
			wantReason(t, err, ReasonFilesChanged)
			onTop.CheckOnly = true
			_, err = i.Rollback(t.Context(), onTop)
			wantReason(t, err, ReasonFilesChanged)
			check := back
			check.CheckOnly = true
			if _, err := i.Rollback(t.Context(), check); err != nil || git(t, top, "rev-parse", "sop/t1") != result.Commit {
				t.Errorf("only looked at: %v", err)
			}
			if _, err := i.Rollback(t.Context(), back); err != nil {
				t.Fatal(err)
			}
			if got := git(t, top, "branch", "--list", "sop/t1"); got != "" {
				t.Errorf("the branch is still there: %q", got)
			}
			if result, err := i.Rollback(t.Context(), back); err != nil || !result.Again {
				t.Errorf("a second time: %+v, %v", result, err)
			}
		})
	}
}

// What differs between work tree and repository by a filter is the same file.
func TestBranchWithLineEndings(t *testing.T) {
	f := newFixture(t, files{"a": "a\r\nb\r\n", ".gitattributes": "a text eol=crlf\n"}, files{"a": "a\r\nB\r\n", ".gitattributes": "a text eol=crlf\n"})
	git(t, f.root, "init", "-q", "-b", "main")
	git(t, f.root, "add", ".")
	git(t, f.root, "commit", "-q", "-m", "first")
	req := f.request()
	req.Mode, req.Branch = Branch, "fix"
	if _, err := New(Options{}).Integrate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got := git(t, f.root, "cat-file", "blob", "fix:a"); got != "a\nB" {
		t.Errorf("%q", got)
	}
}

func TestPatchFile(t *testing.T) {
	f := gitFixture(t)
	dir := filepath.Join(t.TempDir(), "out")
	req := f.request()
	req.Mode, req.Dir, req.Message = PatchFile, dir, "Fix it\n\nAt length."
	wrong := errors.New("the tests fail")
	req.Check = func(_ context.Context, tree string) error {
		if left, err := os.ReadDir(dir); tree != "" || len(left) > 0 {
			t.Errorf("the check has %q; there is %v already, %v", tree, left, err)
		}
		return wrong
	}
	if _, err := New(Options{}).Integrate(t.Context(), req); !errors.Is(err, wrong) {
		t.Errorf("%v", err)
	}
	wrong = nil
	result, err := New(Options{}).Integrate(t.Context(), req)
	if err != nil || len(result.Notes) > 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	f.want(t, f.old, "the work tree is not touched")
	git(t, f.root, "am", "-q", result.File)
	f.want(t, f.new, "applied")
	if got := git(t, f.root, "log", "-1", "--format=%an %s%n%b"); !strings.HasPrefix(got, "SOP Fix it\nAt length.\n\nSop-Patch: p1") {
		t.Errorf("%q", got)
	}
	if _, err := New(Options{}).Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1", Mode: PatchFile, File: result.File}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(result.File); err == nil {
		t.Error("the file is still there")
	}
	_, err = New(Options{}).Integrate(t.Context(), req)
	wantReason(t, err, ReasonBaseMoved)
}

func TestRollbackMerges(t *testing.T) {
	lines := strings.Repeat("line\n", 20)
	before := files{"f": "one\n" + lines + "end\n", "gone": "g\n", "link": "->f"}
	after := files{"f": "two\n" + lines + "end\n", "new": "n\n", "d/e": "e\n", "link": "->new"}
	f := newFixture(t, before, after)
	old := before.write(t, t.TempDir())
	i := New(Options{})
	if _, err := i.Integrate(t.Context(), f.request()); err != nil {
		t.Fatal(err)
	}
	must(t, os.WriteFile(filepath.Join(f.root, "f"), []byte("two\n"+lines+"my end\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(f.root, "d/mine"), []byte("mine\n"), 0o644))
	edited := tableOf(t, f.root)
	req := RollbackRequest{Root: f.root, ID: "p1", Set: f.set, New: in(f.after), Old: []Copy{copyIn("old", old)}}
	_, err := i.Rollback(t.Context(), req)
	wantReason(t, err, ReasonFilesChanged)
	f.want(t, edited, "refused")
	check := req
	check.CheckOnly = true
	_, err = i.Rollback(t.Context(), check)
	wantReason(t, err, ReasonFilesChanged)
	check.Merge = true
	if _, err := i.Rollback(t.Context(), check); err != nil {
		t.Error(err)
	}
	f.want(t, edited, "only looked at")
	var saved []string
	req.Merge, req.Before = true, func(_ context.Context, paths []string) error {
		f.want(t, edited, "when it is saved")
		saved = paths
		return nil
	}
	result, err := i.Rollback(t.Context(), req)
	if err != nil || len(result.Notes) != 2 || result.From != "old" {
		t.Fatalf("%+v, %v", result, err)
	}
	if want := []string{"d/e", "f", "link", "new"}; !slices.Equal(saved, want) {
		t.Errorf("saved %q, want %q", saved, want)
	}
	for name, want := range (files{"f": "one\n" + lines + "my end\n", "gone": "g\n", "d/mine": "mine\n"}) {
		if text, err := os.ReadFile(filepath.Join(f.root, name)); err != nil || string(text) != want {
			t.Errorf("%s holds %q, %v", name, text, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(f.root, "link")); target != "f" || err != nil {
		t.Errorf("link to %q, %v", target, err)
	}
	if left := records(t, f.root); len(left) > 0 {
		t.Errorf("records left: %v", left)
	}

	// The same lines: nothing is changed.
	f = newFixture(t, before, after)
	if _, err := i.Integrate(t.Context(), f.request()); err != nil {
		t.Fatal(err)
	}
	must(t, os.WriteFile(filepath.Join(f.root, "f"), []byte("my two\n"+lines+"end\n"), 0o644))
	edited = tableOf(t, f.root)
	req.Root, check.Root = f.root, f.root
	_, err = i.Rollback(t.Context(), check)
	wantReason(t, err, ReasonFilesChanged)
	_, err = i.Rollback(t.Context(), req)
	wantReason(t, err, ReasonFilesChanged)
	f.want(t, edited, "refused")
}

func TestRepositoryOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of another user")
	}
	f := gitFixture(t)
	marker := filepath.Join(f.root, ".git/who")
	must(t, os.WriteFile(marker, nil, 0o600))
	if out, err := exec.Command("chown", "-R", "1234:1234", f.root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// A filter that the repository configures runs as its owner, never as root.
	must(t, os.WriteFile(filepath.Join(f.root, ".git/info/attributes"), []byte("a.txt filter=mine\n"), 0o644))
	config, err := os.OpenFile(filepath.Join(f.root, ".git/config"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = config.WriteString("[filter \"mine\"]\n\tclean = id -u >> " + marker + " && cat\n")
	must(t, err)
	must(t, config.Close())
	req := f.request()
	req.Mode, req.Branch = Branch, "fix"
	if _, err := New(Options{}).Integrate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(marker); err != nil || !strings.HasPrefix(string(text), "1234\n") || strings.Contains(string(text), "\n0\n") {
		t.Errorf("the filter ran as %q, %v", text, err)
	}
}
