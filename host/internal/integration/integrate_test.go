package integration

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
)

// everything is two trees between which there is a change of every sort.
var everyBefore = files{
	"modified": "one\n", "modified.sh": "0755:#!/bin/sh\n", "gone": "x\n", "dir/gone": "y\n", "dir/sub/gone": "z\n", "mode": "m\n", "kept": "kept\r\n",
	"gone link": "->kept", "link": "->modified", "closed/": "0755:", "closed/in": "i\n",
	"file to dir": "f\n", "dir to file/a": "a\n", "dir to file/b/c": "c\n", "file to link": "f\n", "link to file": "->kept", "empty/": "",
}

var everyAfter = files{
	"modified": "two\n", "modified.sh": "0755:#!/bin/sh\necho\n", "mode": "0600:m\n", "kept": "kept\r\n",
	"link": "->kept", "closed/": "0555:", "closed/in": "i2\n", "added": "a\n", "new/sub/added": "0400:b\n", "new/link": "->sub/added", "new shut/": "0500:", "new shut/in": "in\n",
	"file to dir/in": "f\n", "dir to file": "d\n", "file to link": "->kept", "link to file": "l\n", "added empty": "",
}

type fixture struct {
	root, after string
	set         *sandbox.ChangeSet
	old, new    files
}

func newFixture(t *testing.T, before, after files) *fixture {
	t.Helper()
	f := &fixture{root: before.write(t, memory(t)), after: after.write(t, memory(t))}
	f.set, f.old, f.new = changes(t, f.root, f.after), tableOf(t, f.root), tableOf(t, f.after)
	return f
}

func (f *fixture) request() Request {
	return Request{Root: f.root, ID: "p1", Set: f.set, Content: in(f.after)}
}

func (f *fixture) want(t *testing.T, want files, when string) {
	t.Helper()
	if d := difference(want, tableOf(t, f.root)); d != "" {
		t.Errorf("%s:\n%s", when, d)
	}
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if err == nil || sdk.FromError(err).Reason != reason {
		t.Errorf("%v, want %s", err, reason)
	}
}

func records(t *testing.T, root string) []string {
	t.Helper()
	for _, name := range []string{gitDir, PrivateDir} {
		entries, err := os.ReadDir(filepath.Join(root, name))
		if err == nil {
			var out []string
			for _, e := range entries {
				if e.IsDir() {
					out = append(out, e.Name())
				}
			}
			return out
		}
	}
	return nil
}

func TestIntegrateAndRollBack(t *testing.T) {
	f := newFixture(t, everyBefore, everyAfter)
	i := New(Options{})
	var order []string
	req := f.request()
	req.Before = func(context.Context) error {
		f.want(t, f.old, "before the first exchange")
		order = append(order, "before")
		return nil
	}
	req.Check = func(context.Context, string) error {
		f.want(t, f.new, "at the check")
		order = append(order, "check")
		return nil
	}
	result, err := i.Integrate(t.Context(), req)
	if err != nil || result.Again || !slices.Contains(result.Paths, "new/sub/added") || !slices.Equal(order, []string{"before", "check"}) {
		t.Fatalf("%+v, %v, %v", result, order, err)
	}
	f.want(t, f.new, "integrated")
	if state, err := i.State(t.Context(), f.root, "p1"); state != StateIntegrated || err != nil {
		t.Errorf("state %q, %v", state, err)
	}
	if result, err = i.Integrate(t.Context(), req); err != nil || !result.Again || len(order) != 2 {
		t.Errorf("a second time: %+v, %v", result, err)
	}
	if all, err := i.Recover(t.Context(), f.root); err != nil || len(all) != 1 || all[0].State != StateIntegrated {
		t.Errorf("recovered %+v, %v", all, err)
	}
	if _, err := i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1", CheckOnly: true}); err != nil {
		t.Fatal(err)
	}
	f.want(t, f.new, "only looked at")
	if result, err = i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1"}); err != nil || result.Again {
		t.Fatalf("%+v, %v", result, err)
	}
	f.want(t, f.old, "rolled back")
	if result, err = i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1"}); err != nil || !result.Again {
		t.Errorf("a second time: %+v, %v", result, err)
	}
	if state, err := i.State(t.Context(), f.root, "p1"); state != StateRolledBack || err != nil {
		t.Errorf("state %q, %v", state, err)
	}
	if result, err = i.Integrate(t.Context(), req); err != nil || result.Again {
		t.Fatalf("after a rollback: %+v, %v", result, err)
	}
	f.want(t, f.new, "integrated again")
	if err := i.Forget(t.Context(), f.root, "p1"); err != nil {
		t.Fatal(err)
	}
	if left := records(t, f.root); len(left) > 0 {
		t.Errorf("records left: %v", left)
	}
	if state, err := i.State(t.Context(), f.root, "p1"); state != StateNone || err != nil {
		t.Errorf("state %q, %v", state, err)
	}
	if err := i.Forget(t.Context(), f.root, "p1"); err != nil {
		t.Errorf("forgotten twice: %v", err)
	}
	_, err = i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1"})
	wantReason(t, err, ReasonNoRecord)
}

// Owners, attributes and the exact old files come through both ways.
func TestWhatIsPreserved(t *testing.T) {
	f := newFixture(t, files{"f": "one\n", "d/": "2755:"}, files{"f": "two\n", "d/new": "n\n"})
	if err := os.Chmod(filepath.Join(f.root, "d"), 0o755|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.root, "f")
	withAttributes := unix.Setxattr(path, "user.note", []byte("mine"), 0) == nil
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chown(path, 1234, 2345), os.Chown(filepath.Join(f.root, "d"), 1234, 3456)); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f.old = tableOf(t, f.root)
	i := New(Options{})
	if _, err := i.Integrate(t.Context(), f.request()); err != nil {
		t.Fatal(err)
	}
	var file, made unix.Stat_t
	if err := errors.Join(unix.Stat(path, &file), unix.Stat(filepath.Join(f.root, "d/new"), &made)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && (file.Uid != 1234 || file.Gid != 2345 || made.Uid != 1234 || made.Gid != 3456) {
		t.Errorf("owners %d:%d, %d:%d", file.Uid, file.Gid, made.Uid, made.Gid)
	}
	if got := attributesOf(path); withAttributes && !slices.Contains(got, "user.note=mine") {
		t.Errorf("attributes %v", got)
	}
	if _, err := i.Rollback(t.Context(), RollbackRequest{Root: f.root, ID: "p1"}); err != nil {
		t.Fatal(err)
	}
	f.want(t, f.old, "rolled back")
	if again, err := os.Stat(path); err != nil || !os.SameFile(old, again) || !again.ModTime().Equal(old.ModTime()) {
		t.Errorf("it is not the file that was there, %v", err)
	}
}

func TestFailedCheckTakesItBack(t *testing.T) {
	f := newFixture(t, everyBefore, everyAfter)
	wrong := errors.New("the tests fail")
	for name, req := range map[string]func(*Request){
		"before": func(r *Request) { r.Before = func(context.Context) error { return wrong } },
		"check":  func(r *Request) { r.Check = func(context.Context, string) error { return wrong } },
	} {
		t.Run(name, func(t *testing.T) {
			r := f.request()
			req(&r)
			if _, err := New(Options{}).Integrate(t.Context(), r); !errors.Is(err, wrong) {
				t.Fatalf("%v", err)
			}
			f.want(t, f.old, "taken back")
			if left := records(t, f.root); len(left) > 0 {
				t.Errorf("records left: %v", left)
			}
		})
	}
}

// Whatever somebody does to a file between the making of a patch and its
// integration is kept, and nothing else is changed.
func TestFileChangedBefore(t *testing.T) {
	edits := map[string]func(root string) error{
		"content": func(root string) error { return os.WriteFile(filepath.Join(root, "modified"), []byte("mine"), 0o644) },
		"mode":    func(root string) error { return os.Chmod(filepath.Join(root, "modified"), 0o600) },
		"gone":    func(root string) error { return os.Remove(filepath.Join(root, "modified")) },
		"taken":   func(root string) error { return os.WriteFile(filepath.Join(root, "added"), []byte("mine"), 0o644) },
		"deleted": func(root string) error { return os.WriteFile(filepath.Join(root, "gone"), []byte("mine"), 0o644) },
		"in a directory": func(root string) error {
			return os.WriteFile(filepath.Join(root, "empty/mine"), []byte("mine"), 0o644)
		},
		"mode of another": func(root string) error { return os.Chmod(filepath.Join(root, "mode"), 0o640) },
		"type": func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "modified")), os.Symlink("kept", filepath.Join(root, "modified")))
		},
	}
	for name, edit := range edits {
		for when, hook := range map[string]func(*Request, func() error){
			"first":      func(_ *Request, do func() error) { must(t, do()) },
			"after that": func(r *Request, do func() error) { r.Before = func(context.Context) error { return do() } },
		} {
			t.Run(name+" "+when, func(t *testing.T) {
				f := newFixture(t, everyBefore, everyAfter)
				var edited files
				req := f.request()
				hook(&req, func() error {
					err := edit(f.root)
					edited = tableOf(t, f.root)
					return err
				})
				_, err := New(Options{}).Integrate(t.Context(), req)
				wantReason(t, err, ReasonBaseMoved)
				f.want(t, edited, "after the edit")
				if left := records(t, f.root); len(left) > 0 {
					t.Errorf("records left: %v", left)
				}
			})
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Who has the old file open and writes to it after it was exchanged keeps the
// edit, too.
func TestWrittenWhileItIsExchanged(t *testing.T) {
	f := newFixture(t, files{"f": "one\n", "g": "g\n"}, files{"f": "two\n", "g": "h\n"})
	file, err := os.OpenFile(filepath.Join(f.root, "f"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	defer file.Close()
	req := f.request()
	req.Check = func(context.Context, string) error {
		_, err := file.WriteString("mine\n")
		return err
	}
	_, err = New(Options{}).Integrate(t.Context(), req)
	wantReason(t, err, ReasonBaseMoved)
	for name, want := range (files{"f": "one\nmine\n", "g": "g\n"}) {
		if text, err := os.ReadFile(filepath.Join(f.root, name)); err != nil || string(text) != want {
			t.Errorf("%s holds %q, %v", name, text, err)
		}
	}
}

func TestRefused(t *testing.T) {
	outside := files{"secret": "s\n"}.write(t, t.TempDir())
	for name, c := range map[string]struct {
		change sandbox.Change
		reason string
	}{
		"above":          {sandbox.Change{Path: "../x", Op: sandbox.OpAdd}, ReasonRefused},
		"absolute":       {sandbox.Change{Path: "/x", Op: sandbox.OpAdd}, ReasonRefused},
		"not clean":      {sandbox.Change{Path: "a/./x", Op: sandbox.OpAdd}, ReasonRefused},
		"git":            {sandbox.Change{Path: "a/.GIT/config", Op: sandbox.OpAdd}, ReasonRefused},
		"git, cut":       {sandbox.Change{Path: "git~1/config", Op: sandbox.OpAdd}, ReasonRefused},
		"private":        {sandbox.Change{Path: PrivateDir + "/x", Op: sandbox.OpAdd}, ReasonRefused},
		"operation":      {sandbox.Change{Path: "x", Op: "link"}, ReasonRefused},
		"setuid":         {sandbox.Change{Path: "x", Op: sandbox.OpAdd, Mode: 0o4755}, ReasonRefused},
		"target":         {sandbox.Change{Path: "x", Op: sandbox.OpSymlink, Target: "y", SHA256: "z"}, ReasonRefused},
		"content":        {sandbox.Change{Path: "x", Op: sandbox.OpAdd, Mode: 0o644, SHA256: hashOf("other"), Size: 2}, ReasonRefused},
		"size":           {sandbox.Change{Path: "x", Op: sandbox.OpAdd, Mode: 0o644, SHA256: hashOf("x\n"), Size: 1}, ReasonRefused},
		"through a link": {sandbox.Change{Path: "out/x", Op: sandbox.OpAdd, Mode: 0o644, SHA256: hashOf("x\n"), Size: 2}, ReasonRefused},
		"link":           {sandbox.Change{Path: "out/secret", Op: sandbox.OpModify, Mode: 0o644, SHA256: hashOf("x\n"), Size: 2, OldSHA256: hashOf("s\n"), OldMode: 0o644}, ReasonRefused},
		"setuid before":  {sandbox.Change{Path: "suid", Op: sandbox.OpModify, Mode: 0o755, SHA256: hashOf("x\n"), Size: 2, OldSHA256: hashOf("u\n"), OldMode: 0o755}, ReasonRefused},
	} {
		t.Run(name, func(t *testing.T) {
			root := files{"a/b": "b\n", "out": "->" + outside, "suid": "0755:u\n"}.write(t, t.TempDir())
			must(t, os.Chmod(filepath.Join(root, "suid"), 0o755|os.ModeSetuid))
			content := files{"x": "x\n", "out/x": "x\n", "out/secret": "x\n", "suid": "x\n"}.write(t, t.TempDir())
			was := tableOf(t, root)
			_, err := New(Options{}).Integrate(t.Context(), Request{Root: root, ID: "p", Set: &sandbox.ChangeSet{Changes: []sandbox.Change{c.change}}, Content: in(content)})
			wantReason(t, err, c.reason)
			if d := difference(was, tableOf(t, root)); d != "" {
				t.Error(d)
			}
			if d := difference(tableOf(t, outside), tableOf(t, outside)); d != "" || len(tableOf(t, outside)) != 1 {
				t.Error("something outside was changed")
			}
		})
	}
	root := t.TempDir()
	for name, req := range map[string]Request{
		"rejected": {Set: &sandbox.ChangeSet{Changes: []sandbox.Change{{Path: "x", Op: sandbox.OpMkdir, Mode: 0o755}}, Rejected: []sandbox.Rejection{{Path: "y", Why: "z"}}}},
		"empty":    {Set: new(sandbox.ChangeSet)},
		"twice":    {Set: &sandbox.ChangeSet{Changes: []sandbox.Change{{Path: "x", Op: sandbox.OpMkdir, Mode: 0o755}, {Path: "x", Op: sandbox.OpMkdir, Mode: 0o755}}}},
		"mode":     {Mode: "air", Set: new(sandbox.ChangeSet)},
	} {
		req.Root, req.ID, req.Content = root, "p", in(root)
		_, err := New(Options{}).Integrate(t.Context(), req)
		t.Run(name, func(t *testing.T) { wantReason(t, err, ReasonRefused) })
	}
}

func TestPlantedHome(t *testing.T) {
	for name, plant := range map[string]func(root string) error{
		"link": func(root string) error { return os.Symlink("/tmp", filepath.Join(root, PrivateDir)) },
		"open": func(root string) error {
			return errors.Join(os.Mkdir(filepath.Join(root, PrivateDir), 0o755), os.Chmod(filepath.Join(root, PrivateDir), 0o777))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, files{"f": "one\n"}, files{"f": "two\n"})
			must(t, plant(f.root))
			_, err := New(Options{}).Integrate(t.Context(), f.request())
			wantReason(t, err, ReasonRefused)
			if text, err := os.ReadFile(filepath.Join(f.root, "f")); err != nil || string(text) != "one\n" {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

func TestTwoHosts(t *testing.T) {
	f := newFixture(t, files{"f": "one\n"}, files{"f": "two\n"})
	req := f.request()
	req.Check = func(ctx context.Context, _ string) error {
		other := f.request()
		other.ID = "p2"
		_, err := New(Options{}).Integrate(ctx, other)
		wantReason(t, err, ReasonBusy)
		return nil
	}
	if _, err := New(Options{}).Integrate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

// In a workspace with files of different owners and modes, what is listed as
// changed is all that differs afterwards.
func TestNothingElseChanges(t *testing.T) {
	f := newFixture(t, everyBefore, everyAfter)
	must(t, os.WriteFile(filepath.Join(f.root, "not ours"), []byte("x"), 0o600))
	if _, err := New(Options{}).Integrate(t.Context(), f.request()); err != nil {
		t.Fatal(err)
	}
	want := maps.Clone(f.new)
	want["not ours"] = tableOf(t, f.root)["not ours"]
	f.want(t, want, "integrated")
	if !strings.HasPrefix(want["not ours"], "file ") {
		t.Error(want["not ours"])
	}
}
