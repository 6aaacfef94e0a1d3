package plugintest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

// kills is how many times a process is killed for each operation.
const kills = 20

// long says that more of the same is wanted.
func long() bool { return os.Getenv("SOP_TEST_LONG") != "" }

// damages are what happens to a file of a repository.
var damages = []struct {
	name string
	do   func(path string, size int64) error
}{
	{"a bit flipped", func(path string, size int64) error {
		return patch(path, rand.Int64N(size), func(c byte) byte { return c ^ 1<<rand.IntN(8) }) //nolint:gosec // any bit will do
	}},
	{"truncated", func(path string, size int64) error { return os.Truncate(path, size/2) }},
	{"zeroed", func(path string, size int64) error { return os.WriteFile(path, make([]byte, size), 0o600) }},
	{"deleted", func(path string, _ int64) error { return os.Remove(path) }},
}

func patch(path string, at int64, change func(byte) byte) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[at] = change(data[at])
	return os.WriteFile(path, data, 0o600) //nolint:gosec // a file of the test
}

// damage: whatever happens to any file of the repository, verification names it
// or nothing is lost; no wrong content is ever restored as if it were right, and
// what is not concerned can still be restored.
func (b *backupTest) damage() {
	b.everything()
	want := make(map[string]map[string]string)
	first := b.saveAll()
	want[first.GetId()] = b.tree(b.root)
	b.write(b.root, "plain.txt", "changed\n")
	deleted := b.saveAll()
	b.write(b.root, "dir/another.go", "package dir // another\n")
	second := b.saveAll()
	want[second.GetId()] = b.tree(b.root)
	_, err := b.client.Delete(b.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{deleted.GetId()}})
	b.must(err)

	pristine := b.state
	found, harmless := 0, make(map[string]int)
	for name, size := range b.stateFiles() {
		for _, d := range damages {
			b.state = b.TempDir()
			b.must(os.CopyFS(b.state, os.DirFS(pristine)), d.do(filepath.Join(b.state, name), size))
			if b.survives(want, name+" "+d.name) {
				found++
			} else {
				harmless[name]++
			}
		}
	}
	if found == 0 {
		b.Error("no damage was found")
	}
	b.Logf("%d damages were found and named; these harmed nothing: %v", found, harmless)
}

// stateFiles are the files with content in the directory of the plugin.
func (b *backupTest) stateFiles() map[string]int64 {
	b.Helper()
	sizes := make(map[string]int64)
	b.must(fs.WalkDir(os.DirFS(b.state), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > 0 {
			sizes[path] = info.Size()
		}
		return err
	}))
	return sizes
}

// survives checks a damaged repository and says whether the damage was found.
func (b *backupTest) survives(want map[string]map[string]string, what string) (found bool) {
	b.Helper()
	impl, err := b.open(b.state)
	if err != nil {
		b.Errorf("%s: the plugin does not open: %v", what, err)
		return true
	}
	client := serve(b.T, backup.Kind, impl)
	result, err := verifyOver(b.Context(), client, &pluginv1.VerifyRequest{Data: true})
	b.must(err)
	found = !result.GetIntact()
	if found && (len(result.GetDamaged()) == 0 || result.GetDamaged()[0].GetName() == "") {
		b.Errorf("%s: it was found and not named", what)
	}
	right := 0
	for id, tree := range want {
		named := false
		for _, d := range result.GetDamaged() {
			named = named || slices.Contains(d.GetSnapshotIds(), id)
		}
		n, lost := b.restoredRight(client, id, tree, what)
		right += n
		if lost > 0 && !named {
			b.Errorf("%s: %d paths of %s are lost, and verification does not name the snapshot: %v", what, lost, id, result.GetDamaged())
		}
	}
	if right == 0 {
		b.Errorf("%s: nothing can be restored any more", what)
	}
	return found
}

// restoredRight restores a snapshot of a damaged repository and counts the paths
// that came back right, and those that did not and were named.
func (b *backupTest) restoredRight(client pluginv1.BackupClient, id string, want map[string]string, what string) (right, lost int) {
	b.Helper()
	target := b.TempDir()
	b.removable(target)
	result, err := restoreOver(b.Context(), client, &pluginv1.RestoreRequest{SnapshotId: id, Target: target})
	if err != nil {
		return 0, len(want)
	}
	failed := make(map[string]bool)
	for _, f := range result.GetFailures() {
		failed[string(f.GetPath())] = true
	}
	got := b.tree(target)
	for path, detail := range want {
		switch {
		case failed[path]:
			lost++
		case got[path] == detail:
			right++
		default:
			b.Errorf("%s: %q came back wrong and was not named:\n got %s\nwant %s", what, path, got[path], detail)
		}
	}
	return right, lost
}

// concurrentWriters: several processes save at once while another prunes; all
// that was acknowledged is there.
func (b *backupTest) concurrentWriters() {
	const writers, times = 4, 5
	for i := range 20 {
		b.write(b.root, fmt.Sprintf("file-%d", i), fmt.Sprintf("content %d of %s", i, b.Name()))
	}
	pruner := b.start("prune", 20, &pluginv1.PruneRequest{})
	var all []*process
	for i := range writers {
		all = append(all, b.start("save", times, &pluginv1.SaveRequest{Root: b.root, Labels: map[string]string{"writer": fmt.Sprint(i)}}))
	}
	ids := make(map[string]bool)
	for _, p := range all {
		answers, err := p.wait()
		b.must(err)
		for _, a := range answers {
			ids[idOf(a)] = true
		}
	}
	_, err := pruner.wait()
	b.must(err)
	listed := b.snapshots()
	if len(ids) != writers*times || len(listed) != len(ids) {
		b.Errorf("%d snapshots were acknowledged, %d are listed, want %d", len(ids), len(listed), writers*times)
	}
	b.whole()
	b.same(b.tree(b.restored(listed[0].GetId())), b.tree(b.root))
}

// idOf is the id in the answer of a process.
func idOf(answer string) string {
	var s struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &s); err != nil {
		return ""
	}
	return s.ID
}

// rooted skips unless the test may mount.
func (b *backupTest) rooted() {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("only root may mount a file system")
	}
}

// mount mounts a file system for the test.
func (b *backupTest) mount(args ...string) (dir string) {
	b.Helper()
	dir = b.TempDir()
	if out, err := exec.CommandContext(b.Context(), "mount", append(args, dir)...).CombinedOutput(); err != nil {
		b.Skipf("this machine does not mount: %v: %s", err, out)
	}
	b.Cleanup(func() { b.must(unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// diskFull: a full disk is said within two seconds, costs nothing that was
// saved, and is forgotten when there is space again.
func (b *backupTest) diskFull() {
	b.rooted()
	b.state = b.mount("-t", "tmpfs", "-o", "size=64m,nr_inodes=400", "none")
	b.client = b.reopen()
	b.write(b.root, "small", "small")
	first, before := b.saveAll(), b.tree(b.root)

	ballast := filepath.Join(b.state, "..ballast")
	b.must(os.WriteFile(ballast, make([]byte, 40<<20), 0o600))
	large := b.write(b.root, "large", strings.Repeat("large", 6<<20))
	b.refusedFull("a file larger than what is free")
	b.must(os.Remove(large), os.Remove(ballast))

	for i := range 500 {
		b.write(b.root, fmt.Sprintf("many/%d", i), fmt.Sprint("file ", i))
	}
	b.fullOrWhole("more files than there are inodes")
	b.must(os.RemoveAll(filepath.Join(b.root, "many")))

	b.client = b.reopen()
	b.whole()
	b.same(b.tree(b.restored(first.GetId())), before)
	b.write(b.root, "next", "there is space again")
	b.same(b.tree(b.restored(b.saveAll().GetId())), b.tree(b.root))

	full := b.mount("-t", "tmpfs", "-o", "size=1m", "none")
	b.write(b.root, "large", strings.Repeat("large", 1<<20))
	_, err := restoreOver(b.Context(), b.client, &pluginv1.RestoreRequest{SnapshotId: b.saveAll().GetId(), Target: full})
	b.expect(err, codes.ResourceExhausted)
	b.paths(b.tree(full))
}

// fullOrWhole saves what a plugin that keeps each file by itself has no room for;
// one that packs them may.
func (b *backupTest) fullOrWhole(what string) {
	b.Helper()
	s, err := saveOver(b.Context(), b.client, &pluginv1.SaveRequest{Root: b.root})
	if err != nil {
		b.refusedFull(what)
		return
	}
	if len(s.GetFailures()) > 0 {
		b.Fatalf("%s: the snapshot has failures: %v", what, s.GetFailures())
	}
	b.same(b.tree(b.restored(s.GetId())), b.tree(b.root))
}

// refusedFull expects that a save is refused for want of space, at once and with
// a remedy.
func (b *backupTest) refusedFull(what string) {
	b.Helper()
	begin := time.Now()
	_, err := saveOver(b.Context(), b.client, &pluginv1.SaveRequest{Root: b.root})
	if took := time.Since(begin); took > 2*time.Second {
		b.Errorf("%s: the error took %v", what, took)
	}
	b.expect(err, codes.ResourceExhausted)
	if err != nil && sdk.FromError(err).Remedy == "" {
		b.Errorf("%s: the error names no remedy", what)
	}
}

// killedSave: SIGKILL at any moment leaves what was acknowledged, and nothing
// half made.
func (b *backupTest) killedSave() {
	request := &pluginv1.SaveRequest{Root: b.root}
	refresh := func(round int) {
		for i := range 40 {
			b.write(b.root, fmt.Sprintf("d%d/file-%d", i%5, i), fmt.Sprintf("round %d file %d %s", round, i, strings.Repeat("x", i*100)))
		}
	}
	refresh(-1)
	began := time.Now()
	_, err := b.start("save", 2, request).wait()
	b.must(err)
	span, survived := time.Since(began), make(map[string]bool)
	for round := range kills {
		refresh(round)
		answers, err := b.start("save", 2, request).killWithin(span)
		b.must(err)
		for _, a := range answers {
			survived[idOf(a)] = true
		}
		b.client = b.reopen()
		b.whole()
		listed := make(map[string]bool)
		for _, s := range b.snapshots() {
			listed[s.GetId()] = true
			if s.GetFiles() != 40 || len(s.GetFailures()) > 0 {
				b.Errorf("round %d: %s has %d files, failures %v", round, s.GetId(), s.GetFiles(), s.GetFailures())
			}
		}
		for id := range survived {
			if !listed[id] {
				b.Errorf("round %d: %s was acknowledged and is gone", round, id)
			}
		}
	}
	b.Logf("%d kills within %v; %d snapshots had been acknowledged and are whole", kills, span.Round(time.Millisecond), len(survived))
	b.same(b.tree(b.restored(b.saveAll().GetId())), b.tree(b.root))
}

// killedRestore: SIGKILL at any moment leaves each file as it was or as it shall
// be, and the next restore finishes the work.
func (b *backupTest) killedRestore() {
	const files = 40
	name := func(i int) string { return fmt.Sprintf("d%d/file-%d", i%4, i) }
	content := func(kind string, i int) string {
		return strings.Repeat(fmt.Sprintf("%s %d\n", kind, i), 1+i*200)
	}
	for i := range files {
		b.write(b.root, name(i), content("saved", i))
	}
	s, want := b.saveAll(), b.tree(b.root)
	target := b.TempDir()
	request := &pluginv1.RestoreRequest{SnapshotId: s.GetId(), Target: target, Overwrite: true}
	var span time.Duration
	for round := range kills + 1 {
		for i := range files {
			b.write(target, name(i), content("older", i))
		}
		p, began := b.start("restore", 1, request), time.Now()
		if round == 0 {
			_, err := p.wait()
			b.must(err)
			span = time.Since(began)
			continue
		}
		_, err := p.killWithin(span)
		b.must(err)
		for i := range files {
			got, err := os.ReadFile(filepath.Join(target, name(i)))
			b.must(err)
			if g := string(got); g != content("saved", i) && g != content("older", i) {
				b.Errorf("round %d: %s is neither the old nor the new file", round, name(i))
			}
		}
		b.client = b.reopen()
		result, err := restoreOver(b.Context(), b.client, request)
		b.must(err)
		if len(result.GetFailures()) > 0 {
			b.Errorf("round %d: failures %v", round, result.GetFailures())
		}
		b.same(b.tree(target), want)
	}
	b.whole()
	b.Logf("%d kills within %v", kills, span.Round(time.Millisecond))
}

// killedPrune: SIGKILL while snapshots are deleted leaves each of them whole or
// gone, and the others untouched.
func (b *backupTest) killedPrune() {
	trees := make(map[string]map[string]string)
	var ids []string
	add := func(n int) {
		for range n {
			for i := range 15 {
				b.write(b.root, fmt.Sprintf("file-%d", i), fmt.Sprintf("%d %d", len(trees), i/2))
			}
			s := b.saveAll()
			ids, trees[s.GetId()] = append(ids, s.GetId()), b.tree(b.root)
		}
	}
	add(4)
	began := time.Now()
	_, err := b.start("delete", 1, &pluginv1.DeleteRequest{SnapshotIds: ids[:2]}).wait()
	b.must(err)
	span, gone := time.Since(began), 0
	ids = ids[2:]
	for round := range kills {
		add(2)
		doomed := []string{ids[0], ids[2]}
		_, err := b.start("delete", 1, &pluginv1.DeleteRequest{SnapshotIds: doomed}).killWithin(span)
		b.must(err)
		b.client = b.reopen()
		b.whole()
		listed := make(map[string]bool)
		for _, s := range b.snapshots() {
			listed[s.GetId()] = true
		}
		for _, id := range ids {
			if !listed[id] && !slices.Contains(doomed, id) {
				b.Fatalf("round %d: %s is gone, and nobody deleted it", round, id)
			}
			if listed[id] {
				b.same(b.tree(b.restored(id)), trees[id])
			} else {
				gone++
			}
		}
		if b.Failed() {
			b.FailNow()
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return !listed[id] })
		for len(ids) > 4 { // what was not deleted is, so that the test stays small
			_, err := b.client.Delete(b.Context(), &pluginv1.DeleteRequest{SnapshotIds: ids[:1]})
			b.must(err)
			ids = ids[1:]
		}
	}
	b.Logf("%d kills within %v; %d snapshots were deleted by those that were killed", kills, span.Round(time.Millisecond), gone)
}

// powerCut: what was acknowledged is on the disk at that moment, not only in
// the memory of the machine.
func (b *backupTest) powerCut() {
	b.rooted()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		b.Skipf("there is no mkfs.ext4: %v", err)
	}
	image := filepath.Join(b.TempDir(), "disk")
	b.must(os.WriteFile(image, nil, 0o600), os.Truncate(image, 96<<20))
	out, err := exec.CommandContext(b.Context(), "mkfs.ext4", "-q", image).CombinedOutput()
	if err != nil {
		b.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	b.state = b.mount("-o", "loop", image)
	b.client = b.reopen()
	for round, files := range []int{5, 1, 5, 200, 5} {
		b.must(os.RemoveAll(b.root), os.Mkdir(b.root, 0o750))
		for i := range files {
			b.write(b.root, fmt.Sprintf("dir/file-%d", i), fmt.Sprintf("round %d file %d", round, i))
		}
		s := b.saveAll()
		copied := filepath.Join(b.TempDir(), "disk") // the acknowledgement has come: the power goes
		out, err := exec.CommandContext(b.Context(), "cp", "--sparse=always", image, copied).CombinedOutput()
		if err != nil {
			b.Fatalf("copy the disk: %v: %s", err, out)
		}
		b.afterPowerCut(copied, s.GetId(), b.tree(b.root))
	}
}

// afterPowerCut looks at the disk with another plugin.
func (b *backupTest) afterPowerCut(image, id string, want map[string]string) {
	b.Helper()
	alive, client := b.state, b.client
	defer func() { b.state, b.client = alive, client }()
	b.state = b.mount("-o", "loop", image)
	b.client = b.reopen()
	b.whole()
	b.same(b.tree(b.restored(id)), want)
}

// tinyFiles: very many files.
func (b *backupTest) tinyFiles() {
	n := 3_000
	if long() {
		n = 100_000
	}
	for i := range n {
		b.write(b.root, fmt.Sprintf("d%03d/f%06d", i%100, i), fmt.Sprintf("tiny %d", i))
	}
	began := time.Now()
	s := b.saveAll()
	saved := time.Now()
	target := b.restored(s.GetId())
	restored := time.Now()
	if s.GetFiles() != int64(n) {
		b.Errorf("%d files were saved, want %d", s.GetFiles(), n)
	}
	b.same(b.tree(target), b.tree(b.root))
	b.Logf("%d files: saved in %v, restored in %v", n, saved.Sub(began).Round(time.Millisecond), restored.Sub(saved).Round(time.Millisecond))
}
