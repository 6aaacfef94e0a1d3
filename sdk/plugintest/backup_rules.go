package plugintest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// fidelity: what comes back is what was there, whatever it was.
func (b *backupTest) fidelity() {
	b.everything()
	before := b.tree(b.root)
	s := b.saveAll()
	if s.GetRoot() != b.root || s.GetFiles() == 0 || s.GetBytes() == 0 || s.GetId() == "" {
		b.Errorf("the snapshot is described as %v", s)
	}
	b.client = b.reopen()
	b.same(b.tree(b.restored(s.GetId())), before)
	b.same(b.tree(b.root), before)
	b.whole()
}

// oddNames: names are bytes. None is merged with another, none is lost.
func (b *backupTest) oddNames() {
	names := []string{
		"new\nline", "tab\tand\x1b[31mescape", "not \xff\xfe utf-8", "not \xff\xfd utf-8", "e\u0301", "\u00e9", "Case", "case",
		" leading", "trailing ", "..hidden", "...", "-rf", "back\\slash", "\"quoted\"", "%41", "A", "\u202egpj.exe", strings.Repeat("n", 255),
	}
	for i, name := range names {
		b.write(b.root, name, strings.Repeat("x", i+1))
		b.write(b.root, "in a dir \xf0/"+name, strings.Repeat("y", i+1))
	}
	before := b.tree(b.root)
	if len(before) != 2*len(names)+1 {
		b.Skipf("this file system merges names: %d of %d", len(before), 2*len(names)+1)
	}
	b.same(b.tree(b.restored(b.saveAll().GetId())), before)

	// Names that are no UTF-8 can be asked for as well.
	s, err := saveOver(b.Context(), b.client, &pluginv1.SaveRequest{Root: b.root, RawPaths: [][]byte{[]byte(names[2])}})
	b.must(err)
	got := b.tree(b.restored(s.GetId()))
	if len(got) != 1 || got[names[2]] != before[names[2]] {
		b.Errorf("saved one name that is not UTF-8 and got back %q", got)
	}
}

// list: newest first, in pages, by labels.
func (b *backupTest) list() {
	if len(b.snapshots()) != 0 {
		b.Fatal("a new repository holds snapshots")
	}
	b.write(b.root, "a", "a")
	var ids []string
	for i := range 7 {
		s, err := saveOver(b.Context(), b.client, &pluginv1.SaveRequest{
			Root: b.root, Labels: map[string]string{"task": "t", "parity": []string{"even", "odd"}[i%2]},
		})
		b.must(err)
		ids = append([]string{s.GetId()}, ids...)
	}
	var got []string
	for token, pages := "", 1; ; pages++ {
		resp, err := b.client.List(b.Context(), &pluginv1.ListRequest{PageToken: token, PageSize: 3})
		b.must(err)
		for _, s := range resp.GetSnapshots() {
			got = append(got, s.GetId())
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
		if pages > 4 {
			b.Fatal("the list has no end")
		}
	}
	if !slices.Equal(got, ids) {
		b.Errorf("listed %v, want %v", got, ids)
	}
	resp, err := b.client.List(b.Context(), &pluginv1.ListRequest{Labels: map[string]string{"task": "t", "parity": "odd"}})
	b.must(err)
	if len(resp.GetSnapshots()) != 3 {
		b.Errorf("%d snapshots have the labels, want 3", len(resp.GetSnapshots()))
	}
	resp, err = b.client.List(b.Context(), &pluginv1.ListRequest{SnapshotIds: []string{ids[5], "nothing", ids[2]}})
	b.must(err)
	if all := resp.GetSnapshots(); len(all) != 2 || all[0].GetId() != ids[2] || all[1].GetId() != ids[5] {
		b.Errorf("asked for two snapshots by their ids, got %v", all)
	}
}

// pin: what is pinned stays; what is deleted is gone, and nothing else with it.
func (b *backupTest) pin() {
	b.write(b.root, "shared", "in both")
	b.write(b.root, "a", "only in the first")
	first := b.saveAll()
	b.write(b.root, "a", "only in the second")
	second := b.saveAll()
	before := b.tree(b.root)

	_, err := b.client.Pin(b.Context(), &pluginv1.PinRequest{SnapshotId: first.GetId(), Pinned: true})
	b.must(err)
	b.client = b.reopen()
	_, err = b.client.Delete(b.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{second.GetId(), first.GetId()}})
	b.expect(err, codes.FailedPrecondition)
	if all := b.snapshots(); len(all) != 2 || !all[1].GetPinned() || all[0].GetPinned() {
		b.Fatalf("after a deletion that was refused there are %v", all)
	}
	_, err = b.client.Pin(b.Context(), &pluginv1.PinRequest{SnapshotId: first.GetId()})
	b.must(err)
	_, err = b.client.Delete(b.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{first.GetId()}})
	b.must(err)
	b.whole()
	b.same(b.tree(b.restored(second.GetId())), before)
	_, err = restoreOver(b.Context(), b.client, &pluginv1.RestoreRequest{SnapshotId: first.GetId(), Target: b.TempDir()})
	b.expect(err, codes.NotFound)
	_, err = b.client.Pin(b.Context(), &pluginv1.PinRequest{SnapshotId: "no such snapshot", Pinned: true})
	b.expect(err, codes.NotFound)
}

// expect expects an error with a code.
func (b *backupTest) expect(err error, code codes.Code) {
	b.Helper()
	if err == nil {
		b.Errorf("no error, want %v", code)
	} else if got := sdk.FromError(err).Code; got != code {
		b.Errorf("%v: %v, want %v", got, err, code)
	}
}

// singlePaths: only what is asked for is saved, and restored.
func (b *backupTest) singlePaths() {
	b.write(b.root, "a/one", "1")
	b.write(b.root, "a/two", "2")
	b.write(b.root, "b/three", "3")
	before := b.tree(b.root)
	some := b.save("a/two", "b")
	all := b.saveAll()
	b.paths(b.tree(b.restored(some.GetId())), "a", "a/two", "b", "b/three")
	target := b.TempDir()
	result, err := restoreOver(b.Context(), b.client, &pluginv1.RestoreRequest{SnapshotId: all.GetId(), Target: target, Paths: []string{"a/one", "no/such"}})
	b.must(err)
	if f := result.GetFailures(); len(f) != 1 || string(f[0].GetPath()) != "no/such" {
		b.Errorf("failures are %v, want one of no/such", f)
	}
	got := b.tree(target)
	b.paths(got, "a", "a/one")
	if got["a/one"] != before["a/one"] {
		b.Errorf("a/one is %s, was %s", got["a/one"], before["a/one"])
	}
}

// excluded: what is to be left out is, with what is beneath it.
func (b *backupTest) excluded() {
	b.write(b.root, "a/one", "1")
	b.write(b.root, "a/out/two", "2")
	b.write(b.root, "not \xff utf-8", "3")
	s, err := saveOver(b.Context(), b.client, &pluginv1.SaveRequest{
		Root: b.root, Excluded: [][]byte{[]byte("a/out"), []byte("not \xff utf-8"), []byte("nowhere")},
	})
	b.must(err)
	if len(s.GetFailures()) > 0 || s.GetFiles() != 1 {
		b.Errorf("%d files were saved, failures are %v", s.GetFiles(), s.GetFailures())
	}
	b.paths(b.tree(b.restored(s.GetId())), "a", "a/one")
	_, err = saveOver(b.Context(), b.client, &pluginv1.SaveRequest{Root: b.root, Excluded: [][]byte{[]byte("../x")}})
	b.expect(err, codes.InvalidArgument)
}

// contents: a snapshot says what it holds, before it is restored.
func (b *backupTest) contents() {
	b.everything()
	b.write(b.root, "not \xff utf-8", "3")
	before := b.tree(b.root)
	s := b.saveAll()
	entries := b.entries(&pluginv1.ContentsRequest{SnapshotId: s.GetId(), Digests: true})
	b.paths(before, slices.Sorted(maps.Keys(entries))...)
	for name, e := range entries {
		path := filepath.Join(b.root, name)
		var st unix.Stat_t
		b.must(unix.Lstat(path, &st))
		if e.GetMode() != st.Mode&0o7777 || e.GetModified().AsTime().UnixNano() != st.Mtim.Nano() {
			b.Errorf("%q: mode %o, modified %v", name, e.GetMode(), e.GetModified().AsTime())
		}
		switch e.GetType() {
		case "file":
			sum, err := hashFile(path)
			b.must(err)
			if e.GetSize() != st.Size || hex.EncodeToString(e.GetSha256()) != sum {
				b.Errorf("%q: %d bytes with hash %x, want %d and %s", name, e.GetSize(), e.GetSha256(), st.Size, sum)
			}
		case "symlink":
			target, err := os.Readlink(path)
			b.must(err)
			if string(e.GetTarget()) != target {
				b.Errorf("%q points to %q, want %q", name, e.GetTarget(), target)
			}
		}
	}
	some := b.entries(&pluginv1.ContentsRequest{SnapshotId: s.GetId(), Paths: [][]byte{[]byte("dir/sub"), []byte("link")}})
	if got := slices.Sorted(maps.Keys(some)); !slices.Equal(got, []string{"dir/sub", "dir/sub/file.go", "link"}) {
		b.Errorf("asked for some, got %q", got)
	}
}

// entries are those of a snapshot by path; a plugin that cannot list them skips
// the test.
func (b *backupTest) entries(req *pluginv1.ContentsRequest) map[string]*pluginv1.SnapshotEntry {
	b.Helper()
	stream, err := b.client.Contents(b.Context(), req)
	b.must(err)
	all := make(map[string]*pluginv1.SnapshotEntry)
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil && sdk.FromError(err).Code == codes.Unimplemented {
			b.Skipf("the plugin does not list what a snapshot holds: %v", err)
		}
		b.must(err)
		for _, e := range resp.GetEntries() {
			if dir := filepath.Dir(string(e.GetPath())); dir != "." && all[dir] == nil && len(req.GetPaths()) == 0 {
				b.Errorf("%q comes before its directory", e.GetPath())
			}
			all[string(e.GetPath())] = e
		}
	}
}

func (b *backupTest) paths(tree map[string]string, want ...string) {
	b.Helper()
	if got := slices.Sorted(maps.Keys(tree)); !slices.Equal(got, want) {
		b.Errorf("there are %q, want %q", got, want)
	}
}

// traversal: no name leads out, in either direction.
func (b *backupTest) traversal() {
	b.write(b.root, "in/side", "x")
	outside := b.write(b.TempDir(), "secret", "not to be read")
	s := b.saveAll()
	for _, p := range []string{"..", "../x", "in/../../x", outside, "/etc/passwd", "in//side", "./in", "in/", "nul\x00"} {
		_, err := saveOver(b.Context(), b.client, &pluginv1.SaveRequest{Root: b.root, RawPaths: [][]byte{[]byte(p)}})
		b.expect(err, codes.InvalidArgument)
		_, err = restoreOver(b.Context(), b.client, &pluginv1.RestoreRequest{SnapshotId: s.GetId(), Target: b.TempDir(), RawPaths: [][]byte{[]byte(p)}})
		b.expect(err, codes.InvalidArgument)
	}
	_, err := saveOver(b.Context(), b.client, &pluginv1.SaveRequest{Root: "relative"})
	b.expect(err, codes.InvalidArgument)
	// A path through a symbolic link is not followed either.
	b.must(os.Symlink(filepath.Dir(outside), filepath.Join(b.root, "way-out")))
	through := b.save("way-out/secret")
	if len(through.GetFailures()) != 1 || through.GetFiles() != 0 {
		b.Errorf("through a symbolic link %d files were saved, failures %v", through.GetFiles(), through.GetFailures())
	}
}

// plantedLinks: a symbolic link in the target leads nothing out of it.
func (b *backupTest) plantedLinks() {
	b.write(b.root, "dir/file", "restored")
	b.write(b.root, "top", "restored")
	s := b.saveAll()
	for _, overwrite := range []bool{false, true} {
		target, outside := b.TempDir(), b.TempDir()
		victim := b.write(outside, "victim", "precious")
		before := b.tree(outside)
		b.must(os.Symlink(outside, filepath.Join(target, "dir")), os.Symlink(victim, filepath.Join(target, "top")))
		result, err := restoreOver(b.Context(), b.client, &pluginv1.RestoreRequest{SnapshotId: s.GetId(), Target: target, Overwrite: overwrite})
		b.must(err)
		b.same(b.tree(outside), before)
		if failed := len(result.GetFailures()) > 0; failed == overwrite {
			b.Errorf("overwrite %v: failures are %v", overwrite, result.GetFailures())
		}
	}
}

// overwrite: what the snapshot names comes back whatever is in its place, and
// what it does not name stays.
func (b *backupTest) overwrite() {
	b.everything()
	before := b.tree(b.root)
	s := b.saveAll()
	in := func(name string) string { return filepath.Join(b.root, name) }
	b.must(os.Chmod(in("dir/sub"), 0o700)) //nolint:gosec // a directory of the test
	b.write(b.root, "plain.txt", "changed")
	b.must(os.Remove(in("large.bin")), os.RemoveAll(in("dir/sub")), os.Remove(in("link")), os.Remove(in("fifo")), os.Remove(in("dangling")))
	b.write(b.root, "large.bin/was/a", "file")
	b.write(b.root, "dir/sub", "was a directory")
	b.must(os.Mkdir(in("link"), 0o700), os.Symlink("large.bin", in("fifo")), os.Chmod(in("empty"), 0o600), os.Truncate(in("holes"), 3))
	b.write(b.root, "dangling", "was a link")
	b.write(b.root, "extra", "stays")
	result, err := restoreOver(b.Context(), b.client, &pluginv1.RestoreRequest{SnapshotId: s.GetId(), Target: b.root, Overwrite: true})
	b.must(err)
	if len(result.GetFailures()) > 0 {
		b.Fatalf("failures: %v", result.GetFailures())
	}
	after := b.tree(b.root)
	if after["extra"] == "" {
		b.Error("a file that the snapshot does not name is gone")
	}
	delete(after, "extra")
	b.same(after, before)
}

// noOverwrite: what is there stays, and is named.
func (b *backupTest) noOverwrite() {
	b.write(b.root, "kept/file", "old")
	b.write(b.root, "gone", "old")
	b.write(b.root, "swapped", "old")
	s := b.saveAll()
	b.write(b.root, "kept/file", "new")
	b.must(os.Remove(filepath.Join(b.root, "gone")), os.Remove(filepath.Join(b.root, "swapped")))
	b.write(b.root, "swapped/in", "new")
	want := b.tree(b.root)
	result, err := restoreOver(b.Context(), b.client, &pluginv1.RestoreRequest{SnapshotId: s.GetId(), Target: b.root})
	b.must(err)
	var failed []string
	for _, f := range result.GetFailures() {
		failed = append(failed, string(f.GetPath()))
	}
	slices.Sort(failed)
	if !slices.Equal(failed, []string{"kept/file", "swapped"}) {
		b.Errorf("failures are %v", result.GetFailures())
	}
	got := b.tree(b.root)
	if got["gone"] == "" {
		b.Error("what was missing was not restored")
	}
	delete(got, "gone")
	b.same(got, want)
}

// sameSizeSameTime: a change that hides behind the old size and time is saved.
func (b *backupTest) sameSizeSameTime() {
	path := b.write(b.root, "file", "first")
	when := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	b.must(os.Chtimes(path, when, when))
	first, before := b.saveAll(), b.tree(b.root)
	b.write(b.root, "file", "other")
	b.must(os.Chtimes(path, when, when))
	second, after := b.saveAll(), b.tree(b.root)
	b.same(b.tree(b.restored(first.GetId())), before)
	b.same(b.tree(b.restored(second.GetId())), after)
}

// missingPath: what cannot be saved is a failure of the snapshot, and the rest
// is saved.
func (b *backupTest) missingPath() {
	b.write(b.root, "there", "x")
	s := b.save("there", "not/there")
	if f := s.GetFailures(); len(f) != 1 || string(f[0].GetPath()) != "not/there" || f[0].GetMessage() == "" {
		b.Errorf("failures are %v", f)
	}
	if all := b.snapshots(); len(all) != 1 || len(all[0].GetFailures()) != 1 {
		b.Errorf("the list does not tell the failure: %v", all)
	}
	b.paths(b.tree(b.restored(s.GetId())), "there")
	_, err := saveOver(b.Context(), b.client, &pluginv1.SaveRequest{Root: filepath.Join(b.root, "nowhere")})
	b.expect(err, codes.NotFound)
}

// unreadable: a file and a directory that may not be read are named.
func (b *backupTest) unreadable() {
	b.write(b.root, "fine", "x")
	b.must(os.Chmod(b.write(b.root, "closed", "x"), 0))
	b.write(b.root, "closed-dir/inside", "x")
	b.must(os.Chmod(filepath.Join(b.root, "closed-dir"), 0))
	b.removable(b.root)
	s, err := b.asNobody(&pluginv1.SaveRequest{Root: b.root})
	b.must(err)
	var failed []string
	for _, f := range s.GetFailures() {
		failed = append(failed, string(f.GetPath()))
	}
	slices.Sort(failed)
	failed = slices.Compact(failed)
	if !slices.Equal(failed, []string{"closed", "closed-dir"}) || s.GetFiles() != 1 {
		b.Errorf("%d files were saved, failures are %v", s.GetFiles(), s.GetFailures())
	}
}

// changesWhileRead: whatever is acknowledged was the content at some time.
func (b *backupTest) changesWhileRead() {
	const size = 4 << 20
	f, err := os.Create(filepath.Join(b.root, "busy"))
	b.must(err)
	b.Cleanup(func() { b.must(f.Close()) })
	fill := func(c byte) { _, err := f.WriteAt(bytes.Repeat([]byte{c}, size), 0); b.must(err) }
	fill('a')
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				if _, err := f.WriteAt(bytes.Repeat([]byte{byte('a' + i%26)}, size), 0); err != nil {
					b.Error(err)
					return
				}
			}
		}
	}()
	saved, failed := 0, 0
	for range 15 {
		s := b.save()
		if len(s.GetFailures()) > 0 {
			failed++
			continue
		}
		saved++
		content, err := os.ReadFile(filepath.Join(b.restored(s.GetId()), "busy"))
		b.must(err)
		if len(content) != size || len(bytes.TrimLeft(content, string(content[:1]))) > 0 {
			b.Error("a torn file was saved and not named")
		}
	}
	close(stop)
	<-done
	b.Logf("of 15 saves %d had the file whole and %d named it as changing", saved, failed)
	fill('z')
	b.saveAll()
}

// cancel: a call whose caller has gone ends, and leaves nothing broken.
func (b *backupTest) cancel() {
	b.write(b.root, "file", "x")
	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	if _, err := saveOver(ctx, b.client, &pluginv1.SaveRequest{Root: b.root}); err == nil {
		b.Error("a save that nobody wants was made")
	}
	b.saveAll()
	b.whole()
}

// sparse: 10 GB of holes are neither read nor stored nor written.
func (b *backupTest) sparse() {
	const size = 10 << 30
	path := filepath.Join(b.root, "image")
	b.must(b.sparseFile(path, size, 7<<30))
	begin := time.Now()
	s := b.saveAll()
	target := b.restored(s.GetId())
	took := time.Since(begin)
	var original, copied, state unix.Stat_t
	b.must(unix.Stat(path, &original), unix.Stat(filepath.Join(target, "image"), &copied), unix.Stat(b.state, &state))
	if copied.Size != size || copied.Blocks > original.Blocks+64 {
		b.Errorf("the copy has %d bytes in %d blocks, the original %d in %d", copied.Size, copied.Blocks, original.Size, original.Blocks)
	}
	f, err := os.Open(filepath.Join(target, "image"))
	b.must(err)
	defer f.Close() //nolint:errcheck // it was read only
	got := make([]byte, 5000)
	_, err = f.ReadAt(got, 7<<30-1)
	b.must(err)
	want := append([]byte{0}, bytes.Repeat([]byte("data"), 1024)...)
	if !bytes.Equal(got[:len(want)], want) || len(bytes.Trim(got[len(want):], "\x00")) > 0 {
		b.Error("the data is not where it was")
	}
	b.Logf("10 GB of holes were saved and restored in %v", took.Round(time.Millisecond))
}
