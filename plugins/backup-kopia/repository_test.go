package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// fixture is a plugin with a tree to save.
type fixture struct {
	*testing.T
	*plugin
	config map[string]any
	state  string
	root   string
}

func newFixture(t *testing.T, config map[string]any) *fixture {
	t.Helper()
	f := &fixture{T: t, config: config, state: t.TempDir(), root: t.TempDir()}
	f.reopen(nil)
	return f
}

// reopen opens the plugin as a new start of it would, with some settings changed.
func (f *fixture) reopen(change map[string]any) {
	f.Helper()
	config := maps.Clone(f.config)
	if config == nil {
		config = make(map[string]any)
	}
	maps.Copy(config, change)
	impl, err := opener(config)(f.state)
	f.must(err)
	f.plugin = impl.(*plugin)
	f.repository.Load().fresh = 0 // what was written shows at once on the file systems of tests
}

func (f *fixture) must(errs ...error) {
	f.Helper()
	if err := errors.Join(errs...); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) write(name, content string) string {
	f.Helper()
	path := filepath.Join(f.root, name)
	f.must(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(content), 0o600))
	return path
}

func (f *fixture) save() *pluginv1.Snapshot {
	f.Helper()
	s, err := f.Save(f.Context(), &pluginv1.SaveRequest{Root: f.root, Labels: map[string]string{"workspace": "w"}}, nil)
	f.must(err)
	return s
}

func (f *fixture) verify(data bool) *pluginv1.VerifyResult {
	f.Helper()
	result, err := f.Verify(f.Context(), &pluginv1.VerifyRequest{Data: data}, nil)
	f.must(err)
	return result
}

// whole expects that everything is intact.
func (f *fixture) whole() {
	f.Helper()
	if r := f.verify(true); !r.GetIntact() || r.GetObjects() == 0 {
		f.Errorf("damaged %v, failures %v", r.GetDamaged(), r.GetFailures())
	}
}

// restored restores a snapshot and returns the contents of its files.
func (f *fixture) restored(id string) map[string]string {
	f.Helper()
	dir := f.TempDir()
	result, err := f.Restore(f.Context(), &pluginv1.RestoreRequest{SnapshotId: id, Target: dir}, nil)
	f.must(err)
	if len(result.GetFailures()) > 0 {
		f.Errorf("failures of the restore: %v", result.GetFailures())
	}
	return contents(f.T, dir)
}

// contents are the files beneath a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (f *fixture) same(got, want map[string]string) {
	f.Helper()
	if !maps.Equal(got, want) {
		f.Errorf("restored %q, want %q", got, want)
	}
}

// change writes to the repository as another program would.
func (f *fixture) change(change func(context.Context, repo.DirectRepositoryWriter) error) {
	f.Helper()
	f.must(writing(f.Context(), f.repository.Load().rep, "test", change))
}

// What has not changed is not read again, and a change that hides behind the old
// size and time is seen; now and then everything is read.
func TestUnchangedFiles(t *testing.T) {
	f := newFixture(t, nil)
	f.write("same", "stays")
	edited := f.write("edited", "first")
	when := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	f.must(os.Chtimes(edited, when, when))
	first := f.save()

	f.reopen(map[string]any{"max_file_size": "1B"}) // whatever is read fails
	if s := f.save(); len(s.GetFailures()) > 0 {
		t.Errorf("unchanged files were read: %v", s.GetFailures())
	}
	f.write("edited", "other")
	f.must(os.Chtimes(edited, when, when))
	s := f.save()
	if len(s.GetFailures()) != 1 || string(s.GetFailures()[0].GetPath()) != "edited" {
		t.Errorf("of one hidden change the failures are %v", s.GetFailures())
	}
	f.reopen(map[string]any{"max_file_size": "1B", "rehash": "0s"})
	if s := f.save(); len(s.GetFailures()) != 2 {
		t.Errorf("not everything was read although it was time to: %v", s.GetFailures())
	}
	f.reopen(nil)
	second := f.save()
	f.same(f.restored(first.GetId()), map[string]string{"same": "stays", "edited": "first"})
	f.same(f.restored(second.GetId()), map[string]string{"same": "stays", "edited": "other"})
	f.whole()
}

// An ignore file in the tree says nothing: the tree is not to be trusted.
func TestIgnoreFilesAreNotHonoured(t *testing.T) {
	f := newFixture(t, nil)
	want := map[string]string{".kopiaignore": "*\n", "a": "a", "dir/.kopiaignore": "/secret\n", "dir/secret": "s"}
	for name, content := range want {
		f.write(name, content)
	}
	f.same(f.restored(f.save().GetId()), want)
}

// The repository is in no snapshot of a directory that it lies in.
func TestRepositoryIsExcluded(t *testing.T) {
	f := newFixture(t, nil)
	f.reopen(map[string]any{"directory": filepath.Join(f.root, ".sop/repository")})
	f.write("a", "a")
	f.same(f.restored(f.save().GetId()), map[string]string{"a": "a"})
}

// Without its record a snapshot is what kopia's directories say, which is all.
func TestLostRecord(t *testing.T) {
	f := newFixture(t, nil)
	f.write("dir/a", "a")
	f.must(os.Link(filepath.Join(f.root, "dir/a"), filepath.Join(f.root, "link")), unix.Mkfifo(filepath.Join(f.root, "pipe"), 0o640))
	f.write("not \xff utf-8", "x")
	f.must(os.Chtimes(filepath.Join(f.root, "dir/a"), time.Unix(1e10, 5), time.Unix(1e10, 5)))
	s := f.save()
	r := f.repository.Load()
	before, _, err := load(f, s.GetId())
	f.must(err, r.store.DeleteBlob(t.Context(), recordBlob(s.GetId())))
	after, failed, err := load(f, s.GetId())
	f.must(err)
	if len(failed) > 0 {
		t.Errorf("lost: %v", failed)
	}
	plain := func(m *record) (all []string) {
		for _, e := range m.entries {
			e.Accessed, e.Changed, e.Inode = tree.Stamp{}, tree.Stamp{}, tree.Inode{}
			text, err := json.Marshal(lineOf(e))
			f.must(err)
			all = append(all, string(text))
		}
		slices.Sort(all)
		return all
	}
	if got, want := plain(after), plain(before); !slices.Equal(got, want) {
		t.Errorf("without the record there are\n%q, with it\n%q", got, want)
	}
	list, err := f.List(t.Context(), &pluginv1.ListRequest{Labels: map[string]string{"workspace": "w"}})
	f.must(err)
	if l := list.GetSnapshots(); len(l) != 1 || !bytes.Equal(l[0].GetManifestSha256(), s.GetManifestSha256()) {
		t.Errorf("listed %v, saved %v", l, s)
	}
}

func load(f *fixture, id string) (*record, []tree.Failure, error) {
	v, err := f.repository.Load().view(f.Context())
	f.must(err)
	return v.load(f.Context(), id)
}

// A snapshot that the kopia client has deleted is lost, and that is said; it can
// be restored as long as its content is there, and nothing frees that.
func TestDeletedByTheClient(t *testing.T) {
	f := newFixture(t, nil)
	f.write("a", "a")
	s := f.save()
	v, err := f.repository.Load().view(t.Context())
	f.must(err)
	c, err := v.catalogue(t.Context())
	f.must(err)
	f.change(func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		return w.DeleteManifest(ctx, c.manifests[s.GetId()].id)
	})
	result := f.verify(false)
	if d := result.GetDamaged(); result.GetIntact() || len(d) != 1 || !slices.Equal(d[0].GetSnapshotIds(), []string{s.GetId()}) {
		t.Errorf("verified as %v", result)
	}
	f.same(f.restored(s.GetId()), map[string]string{"a": "a"})
	resp, err := f.Prune(t.Context(), &pluginv1.PruneRequest{}, nil)
	f.must(err)
	if !strings.Contains(resp.GetNote(), s.GetId()) || resp.GetFreedBytes() != 0 {
		t.Errorf("pruned: %v", resp)
	}
	_, err = f.Delete(t.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{s.GetId()}}) // so the loss is accepted
	f.must(err)
	f.whole()
}

// Retention, whatever the clock says: pins and the last good snapshot stay.
func TestPrune(t *testing.T) {
	f := newFixture(t, map[string]any{"keep_last": 1, "keep_within": "24h"})
	clock := time.Now()
	f.now = func() time.Time { return clock }
	var ids []string
	for i := range 5 {
		f.write("a", fmt.Sprint(i))
		ids = append(ids, f.save().GetId())
	}
	_, err := f.Pin(t.Context(), &pluginv1.PinRequest{SnapshotId: ids[1], Pinned: true})
	f.must(err)
	clock = clock.AddDate(-1, 0, 0)
	if resp, err := f.Prune(t.Context(), &pluginv1.PruneRequest{}, nil); err != nil || len(resp.GetDeletedIds()) > 0 {
		t.Errorf("with the clock a year back %v, %v were deleted", resp.GetDeletedIds(), err)
	}
	clock = clock.AddDate(2, 0, 0)
	dry, err := f.Prune(t.Context(), &pluginv1.PruneRequest{DryRun: true}, nil)
	f.must(err)
	if want := []string{ids[0], ids[2], ids[3]}; !slices.Equal(dry.GetDeletedIds(), want) {
		t.Errorf("%v would be deleted, want %v", dry.GetDeletedIds(), want)
	}
	removed := int64(0)
	resp, err := f.Prune(t.Context(), &pluginv1.PruneRequest{}, func(p *pluginv1.BackupProgress) error {
		removed = p.GetFiles()
		return nil
	})
	f.must(err)
	if removed < int64(len(dry.GetDeletedIds())) { // at least the records of the snapshots
		t.Errorf("told of %d blobs", removed)
	}
	if !slices.Equal(resp.GetDeletedIds(), dry.GetDeletedIds()) || resp.GetNote() != pendingNote {
		t.Errorf("pruned: %v", resp)
	}
	list, err := f.List(t.Context(), &pluginv1.ListRequest{})
	f.must(err)
	if l := list.GetSnapshots(); len(l) != 2 || l[0].GetId() != ids[4] || l[1].GetId() != ids[1] || !l[1].GetPinned() {
		t.Errorf("left are %v", l)
	}
	f.same(f.restored(ids[1]), map[string]string{"a": "1"})
	f.whole()
}

// A snapshot that is deleted while the repository is verified is not damaged.
func TestVerifyWhileDeleting(t *testing.T) {
	f := newFixture(t, nil)
	f.write("a", "a")
	s := f.save()
	r := f.repository.Load()
	v, err := r.view(t.Context())
	f.must(err)
	job := newVerification(r, v)
	c, err := v.catalogue(t.Context())
	f.must(err)
	_, err = f.Delete(t.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{s.GetId()}})
	f.must(err, job.snapshot(t.Context(), c, s.GetId()))
	if len(job.result.GetDamaged())+len(job.result.GetFailures()) > 0 {
		t.Errorf("damaged: %v", job.result)
	}
}

// What the kopia client reads of a file with holes is the file.
func TestHolesAreZerosForOthers(t *testing.T) {
	f := newFixture(t, nil)
	path := filepath.Join(f.root, "image")
	file, err := os.Create(path)
	f.must(err)
	for _, at := range []int64{0, 1 << 20, 40 << 20, 41<<20 + 5, 100 << 20} { // holes that are stored and such that are not
		_, err := file.WriteAt([]byte("some data"), at)
		f.must(err)
	}
	f.must(file.Truncate(150<<20+1), file.Close())
	s := f.save()
	m, _, err := load(f, s.GetId())
	f.must(err)
	e := m.entries[0]
	if !e.Sparse {
		t.Skip("this file system has no holes")
	}
	if s.GetStoredBytes() > 1<<20 {
		t.Errorf("%d bytes were stored", s.GetStoredBytes())
	}
	id, err := objectOf(e)
	f.must(err)
	r, err := f.repository.Load().rep.OpenObject(t.Context(), id)
	f.must(err)
	defer r.Close()
	got, want := sha256.New(), sha256.New()
	_, err = io.Copy(got, r)
	f.must(err)
	original, err := os.Open(path)
	f.must(err)
	defer original.Close()
	_, err = io.Copy(want, original)
	f.must(err)
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("it is another file")
	}
	f.whole()
}

// A wrong password is said, by the name of the setting and without the password.
func TestWrongPassword(t *testing.T) {
	f := newFixture(t, nil)
	f.write("a", "a")
	f.save()
	_, err := opener(map[string]any{"password": "wrong and secret"})(f.state)
	var ce *sdk.ConfigError
	if !errors.As(err, &ce) || ce.Attribute != "password_file" || ce.Detail == "" {
		t.Fatalf("opened with a wrong password: %v", err)
	}
	if strings.Contains(err.Error()+ce.Detail, "wrong and secret") {
		t.Errorf("the error tells the password: %v", err)
	}
	f.reopen(nil)
	f.whole()
}

// No file that the plugin leaves holds a secret, a name or content in the clear.
func TestNothingIsInTheClear(t *testing.T) {
	secrets := []string{"correct horse", "a name to hide", "content to hide", "label to hide"}
	f := newFixture(t, map[string]any{"compression": "none"})
	f.write(secrets[1], secrets[2])
	_, err := f.Save(t.Context(), &pluginv1.SaveRequest{Root: f.root, Labels: map[string]string{"reason": secrets[3]}}, nil)
	f.must(err)
	for name, text := range contents(t, f.state) {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q", name, secret)
			}
		}
	}
}

func TestConfigurationIsRefused(t *testing.T) {
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bucket := map[string]any{"bucket": "b", "access_key": "a", "secret_key": "s"}
	for name, tc := range map[string]struct {
		config    map[string]any
		attribute string
	}{
		"relative directory":  {map[string]any{"directory": "a/b"}, "directory"},
		"foreign directory":   {map[string]any{"directory": foreign}, "directory"},
		"directory, bucket":   {map[string]any{"directory": foreign, "s3": bucket}, "directory"},
		"no password":         {map[string]any{"password": ""}, "password_file"},
		"two passwords":       {map[string]any{"password_file": empty}, "password"},
		"empty password file": {map[string]any{"password": "", "password_file": empty}, "password_file"},
		"no such file":        {map[string]any{"password": "", "password_file": empty + "x"}, "password_file"},
		"compression":         {map[string]any{"compression": "paq"}, "compression"},
		"rehash":              {map[string]any{"rehash": "weekly"}, "rehash"},
		"keep_last":           {map[string]any{"keep_last": -1}, "keep_last"},
		"keep_within":         {map[string]any{"keep_within": "-1h"}, "keep_within"},
		"max_files":           {map[string]any{"max_files": 0}, "max_files"},
		"min_free":            {map[string]any{"min_free": "5"}, "min_free"},
		"ca_file":             {map[string]any{"s3": map[string]any{"bucket": "b", "access_key": "a", "secret_key": "s", "ca_file": empty + "x"}}, "ca_file"},
		"no secret key":       {map[string]any{"s3": map[string]any{"bucket": "b", "access_key": "a"}}, "secret_key_file"},
	} {
		_, err := opener(tc.config)(t.TempDir())
		var ce *sdk.ConfigError
		if !errors.As(err, &ce) || ce.Attribute != tc.attribute || ce.Summary == "" {
			t.Errorf("%s: %v, want an error of %s", name, err, tc.attribute)
		}
	}
}

// Limits end a save before anything is written.
func TestLimits(t *testing.T) {
	f := newFixture(t, map[string]any{"max_size": "64KiB", "max_files": 3})
	refused := func(reason string) {
		t.Helper()
		_, err := f.Save(t.Context(), &pluginv1.SaveRequest{Root: f.root}, nil)
		if err == nil || sdk.FromError(err).Reason != reason || sdk.FromError(err).Remedy == "" {
			t.Errorf("%v, want %s", err, reason)
		}
	}
	f.write("large", strings.Repeat("x", 128<<10))
	refused("SNAPSHOT_TOO_LARGE")
	for i := range 3 {
		f.write(fmt.Sprint(i), "x")
	}
	refused("TOO_MANY_FILES")
}

// A repository that is damaged is not written to, and says what to do.
func TestDamagedRepositoryIsNotWritten(t *testing.T) {
	f := newFixture(t, nil)
	f.write("a", "a")
	s := f.save()
	f.must(os.WriteFile(filepath.Join(f.state, "repository", shardsFile), []byte("{"), 0o600))
	f.reopen(nil)
	before := contents(t, filepath.Join(f.state, "repository"))
	for what, err := range map[string]error{
		"save":   second(f.Save(t.Context(), &pluginv1.SaveRequest{Root: f.root}, nil)),
		"delete": second(f.Delete(t.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{s.GetId()}})),
		"pin":    second(f.Pin(t.Context(), &pluginv1.PinRequest{SnapshotId: s.GetId(), Pinned: true})),
		"prune":  second(f.Prune(t.Context(), &pluginv1.PruneRequest{}, nil)),
	} {
		if err == nil || sdk.FromError(err).Reason != "REPOSITORY_DAMAGED" || sdk.FromError(err).Remedy == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.same(f.restored(s.GetId()), map[string]string{"a": "a"})
	if after := contents(t, filepath.Join(f.state, "repository")); !maps.Equal(before, after) {
		t.Error("the repository was written to")
	}
}

func second[T any](_ T, err error) error { return err }

// What a process has left that was killed while it wrote goes when it is old.
func TestSweep(t *testing.T) {
	f := newFixture(t, nil)
	dir := filepath.Join(f.state, "repository")
	old, young := filepath.Join(dir, "p"+tempInfix+"00"), filepath.Join(dir, "p"+tempInfix+"01")
	f.must(os.WriteFile(old, nil, 0o600), os.WriteFile(young, nil, 0o600), os.Chtimes(old, time.Time{}, time.Now().Add(-2*staleTemp)))
	_, err := f.Prune(t.Context(), &pluginv1.PruneRequest{}, nil)
	f.must(err)
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old one: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("the young one: %v", err)
	}
}

// FuzzRecord: whatever stands in a record is taken apart or refused.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(recordMagic + "\x01a\x01b\x02cdbody"))
	f.Add([]byte(recordMagic + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parseRecord(raw)
		if err == nil && len(p.clear)+len(p.head)+len(p.body) > len(raw) {
			t.Fatal("there is more in it than there was")
		}
	})
}

// full is a storage whose disk is full for packs.
type full struct {
	blob.Storage
	on bool
}

// PutBlob implements [blob.Storage].
func (f *full) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if f.on && isPack(id) {
		return &os.PathError{Op: "write", Path: string(id), Err: unix.ENOSPC}
	}
	return f.Storage.PutBlob(ctx, id, data, opts)
}

// A disk that somebody else fills while a snapshot is made ends that one, and
// nothing else.
func TestDiskFillsMeanwhile(t *testing.T) {
	f := newFixture(t, nil)
	f.write("a", "a")
	first := f.save()
	r := f.repository.Load()
	disk := &full{r.store, true}
	r.store, r.rep = disk, nil
	_, err := r.view(t.Context())
	f.must(err)
	f.write("b", "b")
	began := time.Now()
	_, err = f.Save(t.Context(), &pluginv1.SaveRequest{Root: f.root}, nil)
	if e := sdk.FromError(err); err == nil || e.Code != codes.ResourceExhausted || e.Remedy == "" {
		t.Errorf("on a full disk: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the error took %v", took)
	}
	disk.on = false
	f.whole()
	second := f.save()
	f.same(f.restored(first.GetId()), map[string]string{"a": "a"})
	f.same(f.restored(second.GetId()), map[string]string{"a": "a", "b": "b"})
	f.whole()
}
