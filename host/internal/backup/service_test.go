package backup_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/backup"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if err == nil || sdk.FromError(err).Reason != reason {
		t.Errorf("got %v, want %s", err, reason)
	}
}

func TestSaveIsRecorded(t *testing.T) {
	s := newSite(t)
	s.write("a \xff", "one")
	s.write("b/c", "two")
	s.write(".sop/state", "not to be saved")
	var told []backup.Progress
	snap, err := s.Save(t.Context(), backup.SaveRequest{
		Workspace: "w", Reason: backup.ForIntegration, Task: "t", Patch: "p", By: "me", Whole: true, Progress: func(p backup.Progress) { told = append(told, p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if snap.Files != 2 || snap.Plugin != "files" || snap.Ref != "ref0" || len(snap.Manifest) != 32 || snap.State != backup.Kept || len(told) != 1 {
		t.Errorf("%+v, told %v", snap, told)
	}
	if got, err := s.Get(t.Context(), snap.ID[:8]); err != nil || !reflect.DeepEqual(got, snap) {
		t.Errorf("recorded %+v, %v", got, err)
	}
	labels := s.plugin.all[0].GetLabels()
	if labels["snapshot"] != snap.ID || labels["task"] != "t" || labels["patch"] != "p" || labels["workspace"] != "w" {
		t.Errorf("labels are %v", labels)
	}
	if !slices.Equal(s.records(), []string{"backup.save success"}) {
		t.Errorf("records are %v", s.records())
	}
	if what := "backup " + snap.ID; !slices.Equal(s.grants, []string{what, "ended " + what}) || !slices.Equal(s.plugin.tokens, []string{"secret", "secret"}) {
		t.Errorf("tokens were given for %v, calls carried %v", s.grants, s.plugin.tokens)
	}
	of, err := s.ForPatch(t.Context(), "p")
	if err != nil || len(of) != 1 || of[0].ID != snap.ID {
		t.Errorf("of the patch: %v, %v", of, err)
	}
}

func TestSaveFails(t *testing.T) {
	s := newSite(t)
	s.write("a", "one")
	snap, err := s.Save(t.Context(), backup.SaveRequest{Workspace: "w", Paths: []string{"a", "gone"}, By: "me", Whole: true})
	wantReason(t, err, "BACKUP_INCOMPLETE")
	if snap == nil || snap.Failed != 1 || snap.Failures[0].Path != "gone" || strings.ContainsRune(snap.Failures[0].Message, '\n') {
		t.Errorf("%+v", snap)
	}
	for _, p := range []string{"/etc/passwd", "..", "a/../b", "", "nul\x00"} {
		_, err := s.Save(t.Context(), backup.SaveRequest{Workspace: "w", Paths: []string{p}})
		wantReason(t, err, "BACKUP_PATHS")
	}
	_, err = s.Save(t.Context(), backup.SaveRequest{Workspace: "other"})
	wantReason(t, err, "WORKSPACE_UNKNOWN")
	_, err = s.Save(t.Context(), backup.SaveRequest{Workspace: "w", Plugin: "tape"})
	wantReason(t, err, "BACKUP_PLUGIN_UNKNOWN")
	s.plugin.fail = sdk.Errorf(codes.ResourceExhausted, "NO_SPACE", "it is full").WithRemedy("make room")
	_, err = s.Save(t.Context(), backup.SaveRequest{Workspace: "w", By: "me"})
	wantReason(t, err, "NO_SPACE")
	if want := []string{"backup.save success", "backup.save failure NO_SPACE"}; !slices.Equal(s.records(), want) {
		t.Errorf("records are %v, want %v", s.records(), want)
	}
	if page, err := s.List(t.Context(), backup.Filter{}); err != nil || len(page.Snapshots) != 1 {
		t.Errorf("listed %v, %v", page, err)
	}
}

// A plugin that says that it has saved must have done so.
func TestSaveThatDidNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		claim  func(*pluginv1.Snapshot) *pluginv1.Snapshot
		reason string
	}{
		"nothing":     {func(*pluginv1.Snapshot) *pluginv1.Snapshot { return nil }, "NO_RESULT"},
		"without id":  {func(*pluginv1.Snapshot) *pluginv1.Snapshot { return &pluginv1.Snapshot{Files: 2} }, "NO_RESULT"},
		"another id":  {func(*pluginv1.Snapshot) *pluginv1.Snapshot { return &pluginv1.Snapshot{Id: "liar", Files: 2} }, "BACKUP_NOT_THERE"},
		"fewer files": {func(made *pluginv1.Snapshot) *pluginv1.Snapshot { made.Files = 1; return made }, "BACKUP_NOT_THERE"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.write("a", "one")
			s.write("b", "two")
			s.plugin.claim = tt.claim
			_, err := s.Save(t.Context(), backup.SaveRequest{Workspace: "w", Paths: []string{"a", "b"}, By: "me", Whole: true})
			wantReason(t, err, tt.reason)
			if page, err := s.List(t.Context(), backup.Filter{}); err != nil || len(page.Snapshots) != 0 {
				t.Errorf("kept %+v, %v", page.Snapshots, err)
			}
		})
	}
}

func TestRestore(t *testing.T) {
	s := newSite(t)
	s.write("a", "old")
	s.write("b", "old")
	snap := s.save("a", "b")
	s.write("a", "new")
	out, err := s.Restore(t.Context(), backup.RestoreRequest{Snapshot: snap.ID, Paths: []string{"a"}, By: "me"})
	if err != nil || out.Failed != 1 || out.Failures[0].Path != "a" {
		t.Errorf("without overwriting: %+v, %v", out, err)
	}
	out, err = s.Restore(t.Context(), backup.RestoreRequest{Snapshot: snap.ID, Paths: []string{"a"}, DryRun: true, By: "me"})
	if err != nil || out.Changes.Differing != 1 || out.Changes.Differences[0].Kind != backup.Content {
		t.Errorf("a dry run: %+v, %v", out, err)
	}
	if text, _ := os.ReadFile(filepath.Join(s.root, "a")); string(text) != "new" {
		t.Errorf("a dry run has changed it: %s", text)
	}
	out, err = s.Restore(t.Context(), backup.RestoreRequest{Snapshot: snap.ID, Paths: []string{"a"}, Overwrite: true, By: "me", Task: "t", Patch: "p"})
	if err != nil || out.Files != 1 || out.Target != s.root {
		t.Errorf("%+v, %v", out, err)
	}
	if text, _ := os.ReadFile(filepath.Join(s.root, "a")); string(text) != "old" {
		t.Errorf("restored %s", text)
	}
	_, err = s.Restore(t.Context(), backup.RestoreRequest{Snapshot: snap.ID, Target: "relative"})
	wantReason(t, err, "BACKUP_TARGET")
}

// What the repository has under a snapshot's id must be what was saved.
func TestTamperedIsNotRestored(t *testing.T) {
	s := newSite(t)
	s.write("a", "old")
	tampered, gone := s.save(), s.save()
	s.plugin.all[0].ManifestSha256 = []byte("another")
	s.plugin.drop("ref1")
	_, err := s.Restore(t.Context(), backup.RestoreRequest{Snapshot: tampered.ID, Target: t.TempDir(), By: "me"})
	wantReason(t, err, "BACKUP_TAMPERED")
	_, err = s.Restore(t.Context(), backup.RestoreRequest{Snapshot: gone.ID, Target: t.TempDir(), By: "me"})
	wantReason(t, err, "BACKUP_LOST")
	for _, snap := range []*backup.Snapshot{tampered, gone} {
		if got, err := s.Get(t.Context(), snap.ID); err != nil || got.State != backup.Lost {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if of, err := s.ForPatch(t.Context(), "p"); err != nil || len(of) != 0 {
		t.Errorf("lost ones are offered for the patch: %v, %v", of, err)
	}
}

func TestVerify(t *testing.T) {
	s := newSite(t)
	s.write("a", "old")
	whole, gone, damaged := s.save(), s.save(), s.save()
	lost := s.plugin.all[1]
	s.plugin.drop("ref1")
	s.plugin.damaged = []*pluginv1.DamagedObject{{Name: "objects/x", Message: "a bit flipped", SnapshotIds: []string{"ref2"}}}
	v, err := s.Verify(t.Context(), backup.VerifyRequest{Data: true, By: "me"})
	if err != nil || v.Intact || len(v.Lost) != 1 || v.Lost[0].Snapshot != gone.ID || v.DamagedTotal != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	seen := func(snap *backup.Snapshot) bool {
		t.Helper()
		got, err := s.Get(t.Context(), snap.ID)
		if err != nil {
			t.Fatal(err)
		}
		return !got.DataAt.IsZero() && got.State == backup.Kept
	}
	if !seen(whole) || seen(gone) || seen(damaged) {
		t.Error("the wrong ones are marked as verified")
	}
	s.plugin.all, s.plugin.damaged = append(s.plugin.all, lost), nil // the disk is mounted again
	v, err = s.Verify(t.Context(), backup.VerifyRequest{Data: true, By: "me"})
	if err != nil || !v.Intact || !seen(gone) || !seen(damaged) {
		t.Errorf("%+v, %v", v, err)
	}
	s.plugin.drop("ref2")
	v, err = s.Verify(t.Context(), backup.VerifyRequest{Snapshots: []string{whole.ID}, By: "me"})
	if err != nil || !v.Intact {
		t.Errorf("one that is whole, while another is gone: %+v, %v", v, err)
	}
	want := []string{
		"backup.save success", "backup.save success", "backup.save success",
		"backup.lost failure the repository has no such snapshot",
		"backup.verify failure 1 snapshots are lost, 1 pieces of the repository are damaged, 0 paths cannot be restored",
		"backup.found success the repository has it as it was saved", "backup.verify success", "backup.verify success",
	}
	if !slices.Equal(s.records(), want) {
		t.Errorf("records are\n%s\nwant\n%s", strings.Join(s.records(), "\n"), strings.Join(want, "\n"))
	}
}

func TestPinDeletePrune(t *testing.T) {
	s := newSite(t)
	s.write("a", "old")
	first, second, third := s.save(), s.save(), s.save()
	if snap, err := s.Pin(t.Context(), first.ID, true, "me"); err != nil || !snap.Pinned || !s.plugin.all[0].GetPinned() {
		t.Fatalf("%+v, %v", snap, err)
	}
	_, err := s.Delete(t.Context(), []string{second.ID, first.ID}, "me")
	wantReason(t, err, "SNAPSHOT_PINNED")
	if deleted, err := s.Delete(t.Context(), []string{second.ID}, "me"); err != nil || len(deleted) != 1 || len(s.plugin.all) != 2 {
		t.Fatalf("%v, %v", deleted, err)
	}
	_, err = s.Restore(t.Context(), backup.RestoreRequest{Snapshot: second.ID, Target: t.TempDir()})
	wantReason(t, err, "BACKUP_DELETED")
	s.plugin.expired = []string{"ref2", "stranger"}
	for _, dry := range []bool{true, false} {
		var told []backup.Progress
		p, err := s.Prune(t.Context(), backup.PruneRequest{DryRun: dry, By: "me", Progress: func(p backup.Progress) { told = append(told, p) }})
		if removed := slices.Equal(told, []backup.Progress{{Files: 2, Bytes: 5}}); removed == dry {
			t.Errorf("dry %v: told %v", dry, told)
		}
		if err != nil || len(p.Deleted) != 1 || p.Deleted[0].ID != third.ID || !slices.Equal(p.Unknown, []string{"stranger"}) || p.Freed != 5 {
			t.Errorf("%+v, %v", p, err)
		}
		got, err := s.Get(t.Context(), third.ID)
		if err != nil || (got.State == backup.Kept) != dry {
			t.Errorf("dry %v: %+v, %v", dry, got, err)
		}
	}
	if v, err := s.Verify(t.Context(), backup.VerifyRequest{By: "me"}); err != nil || !v.Intact {
		t.Errorf("what was deleted is missed: %+v, %v", v, err)
	}
}

func TestCompare(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{"same", "changed", "gone", "mode", "swapped", "dir/kept", "dir/gone \xff"} {
		s.write(name, "old")
	}
	s.write(".sop/db", "state")
	snap := s.save()
	s.write("changed", "new")
	s.write("dir/added", "new")
	s.write("new-dir/with", "files")
	in := func(name string) string { return filepath.Join(s.root, name) }
	err := errors.Join(os.Remove(in("gone")), os.Chmod(in("mode"), 0o640), os.Remove(in("swapped")), os.Symlink("same", in("swapped")), os.Remove(in("dir/gone \xff")))
	if err != nil {
		t.Fatal(err)
	}
	var told []backup.Progress
	c, err := s.Compare(t.Context(), backup.CompareRequest{Snapshot: snap.ID, Progress: func(p backup.Progress) { told = append(told, p) }})
	if n := len(told); n == 0 || told[n-1] != (backup.Progress{Files: snap.Files, Bytes: snap.Bytes}) {
		t.Errorf("told %+v of %+v", told, snap)
	}
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range c.Differences {
		got = append(got, string(d.Kind)+" "+d.Path)
	}
	want := []string{"content changed", "added dir/added", "missing dir/gone \xff", "missing gone", "mode mode", "added new-dir", "type swapped"}
	if !slices.Equal(got, want) || c.Differing != int64(len(want)) {
		t.Errorf("differences are %q, want %q", got, want)
	}
	later := s.save()
	c, err = s.Compare(t.Context(), backup.CompareRequest{Snapshot: snap.ID, Against: later.ID, Paths: nil})
	if err != nil || c.Against.ID != later.ID || !slices.ContainsFunc(c.Differences, func(d backup.Difference) bool { return d.Path == "gone" && d.Kind == backup.Missing }) {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = s.Compare(t.Context(), backup.CompareRequest{Snapshot: snap.ID, Target: filepath.Join(t.TempDir(), "none")})
	if err != nil || c.Differing != c.Compared {
		t.Errorf("with nothing: %+v, %v", c, err)
	}
}
