package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

const (
	clientHost     = "machine"
	clientPassword = "correct horse"
)

// client is the kopia program of the version that the plugin is built with,
// connected to a repository.
type client struct {
	*testing.T
	program, home string
	password      string
}

// buildClient builds the program; that takes minutes when nothing is cached.
func buildClient(t *testing.T) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/kopia/kopia").Output()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "kopia")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, ".")
	cmd.Dir = strings.TrimSpace(string(dir))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the kopia client: %v\n%s", err, out)
	}
	return program
}

func connect(t *testing.T, program, repository string) *client {
	t.Helper()
	c := &client{t, program, t.TempDir(), clientPassword}
	c.run("repository", "connect", "filesystem", "--path", repository, "--override-username", userName, "--override-hostname", clientHost)
	return c
}

func (c *client) run(args ...string) []byte {
	c.Helper()
	cmd := exec.CommandContext(c.Context(), c.program, append(args, "--config-file", filepath.Join(c.home, "config"), "--no-progress")...)
	cmd.Env = append(os.Environ(), "KOPIA_PASSWORD="+c.password, "KOPIA_CHECK_FOR_UPDATES=false", "KOPIA_CACHE_DIRECTORY="+c.home+"/cache", "KOPIA_LOG_DIR="+c.home+"/logs")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.Fatalf("kopia %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// clientSnapshot is a line of the client's list.
type clientSnapshot struct {
	ID     string
	Source struct{ Host, UserName, Path string }
	Root   struct {
		Obj  string
		Summ struct{ Files int }
	} `json:"rootEntry"`
	Tags map[string]string
	Pins []string
}

func (c *client) snapshots() (all []clientSnapshot) {
	c.Helper()
	if err := json.Unmarshal(c.run("snapshot", "list", "--all", "--json"), &all); err != nil {
		c.Fatal(err)
	}
	return all
}

func skipUnlessLong(t *testing.T) {
	t.Helper()
	if v := os.Getenv("SOP_TEST_LONG"); v == "" || v == "short" {
		t.Skip("it builds the kopia client, which takes minutes: set SOP_TEST_LONG=1")
	}
}

// The ordinary client lists, verifies and restores what the plugin has saved, and
// what it does to the repository the plugin lives with.
func TestClientLong(t *testing.T) {
	skipUnlessLong(t)
	program := buildClient(t)
	f := newFixture(t, map[string]any{"host_name": clientHost, "password": clientPassword})
	f.write("dir/script", "#!/bin/sh\n")
	f.write("not \xff utf-8", "x")
	f.must(os.Chmod(filepath.Join(f.root, "dir/script"), 0o755), os.Symlink("dir/script", filepath.Join(f.root, "link")), unix.Mkfifo(filepath.Join(f.root, "pipe"), 0o600))
	when := time.Date(2021, 2, 3, 4, 5, 6, 789, time.UTC)
	f.must(os.Chtimes(filepath.Join(f.root, "dir/script"), when, when))
	image, err := os.Create(filepath.Join(f.root, "image"))
	f.must(err)
	_, err = image.WriteAt([]byte("data"), 60<<20)
	f.must(err, image.Truncate(100<<20), image.Close())
	f.save()
	f.write("dir/more", "more")
	s := f.save()

	c := connect(t, program, filepath.Join(f.state, "repository"))
	c.lists(f, s.GetId())
	c.restores(f, s)
	c.run("snapshot", "verify", "--verify-files-percent=100")
	c.pins(f, s)
	c.collects(f, s)
	c.changesPassword(f, s)
}

func (c *client) find(id string) clientSnapshot {
	c.Helper()
	all := c.snapshots()
	i := slices.IndexFunc(all, func(s clientSnapshot) bool { return s.Tags["sop-id"] == id || s.Tags[idTag] == id })
	if i < 0 {
		c.Fatalf("the client does not list %s: %+v", id, all)
	}
	return all[i]
}

func (c *client) lists(f *fixture, id string) {
	c.Helper()
	s := c.find(id)
	if s.Source.Path != f.root || s.Source.Host != clientHost || s.Source.UserName != userName || s.Root.Summ.Files != 4 {
		c.Errorf("the client lists %+v", s)
	}
}

func (c *client) restores(f *fixture, s *pluginv1.Snapshot) {
	c.Helper()
	target := c.TempDir()
	c.run("restore", c.find(s.GetId()).Root.Obj, target)
	want := contents(c.T, f.root)
	want["not \uFFFDff utf-8"] = want["not \xff utf-8"]
	delete(want, "not \xff utf-8")
	got := contents(c.T, target)
	for name, text := range want {
		if got[name] != text {
			c.Errorf("the client restored %q as %d bytes, want %d", name, len(got[name]), len(text))
		}
	}
	info, err := os.Stat(filepath.Join(target, "dir/script"))
	f.must(err)
	if info.Mode() != 0o755 || !info.ModTime().Equal(time.Date(2021, 2, 3, 4, 5, 6, 789, time.UTC)) {
		c.Errorf("the client restored %v, %v", info.Mode(), info.ModTime())
	}
	if to, err := os.Readlink(filepath.Join(target, "link")); err != nil || to != "dir/script" {
		c.Errorf("the client restored the link as %q, %v", to, err)
	}
}

// pins: a pin of the client counts, and does not make another snapshot of it.
func (c *client) pins(f *fixture, s *pluginv1.Snapshot) {
	c.Helper()
	c.run("snapshot", "pin", "--add", "mine", c.find(s.GetId()).ID)
	list, err := f.List(c.Context(), &pluginv1.ListRequest{SnapshotIds: []string{s.GetId()}})
	f.must(err)
	if l := list.GetSnapshots(); len(l) != 1 || !l[0].GetPinned() || !bytes.Equal(l[0].GetManifestSha256(), s.GetManifestSha256()) {
		c.Errorf("after a pin of the client there is %v", l)
	}
	_, err = f.Delete(c.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{s.GetId()}})
	if err == nil || sdk.FromError(err).Reason != "SNAPSHOT_PINNED" {
		c.Errorf("what the client has pinned was deleted: %v", err)
	}
	f.whole()
}

// collects: the client's most thorough maintenance deletes nothing that a
// snapshot of ours needs, and frees what none does.
func (c *client) collects(f *fixture, s *pluginv1.Snapshot) {
	c.Helper()
	c.run("snapshot", "create", c.TempDir())
	garbage := make([]byte, 48<<20)                   // packs that hold nothing else
	_, _ = rand.NewChaCha8([32]byte{2}).Read(garbage) // never fails
	path := f.write("garbage", string(garbage))
	doomed := f.save()
	f.must(os.Remove(path))
	_, err := f.Delete(c.Context(), &pluginv1.DeleteRequest{SnapshotIds: []string{doomed.GetId()}})
	f.must(err)
	before, err := f.repository.Load().size(c.Context())
	f.must(err)
	const most = 5 // what one run drops from the index, a later one deletes
	for run := 0; ; run++ {
		c.run("maintenance", "run", "--full", "--safety=none")
		after, err := f.repository.Load().size(c.Context())
		f.must(err)
		if before-after >= 20<<20 {
			break
		}
		if run == most {
			c.Fatalf("%d bytes before, %d after the maintenance", before, after)
		}
	}
	f.reopen(nil)
	f.whole()
	f.same(f.restored(s.GetId()), contents(c.T, f.root))
	list, err := f.List(c.Context(), &pluginv1.ListRequest{})
	f.must(err)
	if n := len(list.GetSnapshots()); n != 2 {
		c.Errorf("%d snapshots of ours are listed, want 2", n)
	}
}

// changesPassword: the new password opens, the old does not; the copy in the next
// record is that of the new one.
func (c *client) changesPassword(f *fixture, s *pluginv1.Snapshot) {
	c.Helper()
	c.run("repository", "change-password", "--new-password", "battery staple")
	if _, err := opener(map[string]any{"host_name": clientHost})(f.state); err == nil {
		c.Error("the old password still opens")
	}
	f.config["password"] = "battery staple"
	f.reopen(nil)
	f.save()
	f.must(os.Remove(filepath.Join(f.state, "repository", "kopia.repository"+blobSuffix)))
	f.reopen(nil)
	f.same(f.restored(s.GetId()), contents(c.T, f.root))
}

// TestBench compares a snapshot of many files, and another of the same, with the
// kopia client on the same tree: as a process each, the repository opened.
func TestBench(t *testing.T) {
	if os.Getenv("SOP_BENCH") == "" {
		t.Skip("it measures: set SOP_BENCH=1")
	}
	program := buildClient(t)
	root := t.TempDir()
	many(t, root, 20_000)
	const rounds = 3
	ours, theirs := [2][]time.Duration{}, [2][]time.Duration{}
	for range rounds {
		state := t.TempDir()
		for i := range 2 {
			ours[i] = append(ours[i], saveOnce(t, state, root))
		}
		c := &client{t, program, t.TempDir(), clientPassword}
		c.run("repository", "create", "filesystem", "--path", filepath.Join(c.home, "repository"))
		c.run("policy", "set", "--global", "--compression", defaultCompression)
		for i := range 2 {
			began := time.Now()
			c.run("snapshot", "create", root)
			theirs[i] = append(theirs[i], time.Since(began))
		}
	}
	for i, what := range []string{"20,000 files, first snapshot", "20,000 files, nothing changed"} {
		o, c := median(ours[i]), median(theirs[i])
		ratio := float64(o) / float64(c)
		t.Logf("bench  %-44s %7.2f×  target ≤ 1.25×  %v, the kopia client %v", what, ratio, o.Round(time.Millisecond), c.Round(time.Millisecond))
	}
}

// many makes a tree of files of 1 to 16 KiB, half of which can be compressed.
func many(t *testing.T, root string, n int) {
	t.Helper()
	source := rand.NewChaCha8([32]byte{1})
	numbers := rand.New(source)
	for i := range n {
		dir := filepath.Join(root, fmt.Sprintf("d%03d", i%400))
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 512+numbers.IntN(7680))
		_, _ = source.Read(text) // never fails
		text = append(text, bytes.Repeat([]byte("text "), len(text)/5)...)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%05d", i)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// saveOnce opens the repository and saves, as a process that does no more.
func saveOnce(t *testing.T, state, root string) time.Duration {
	t.Helper()
	if _, err := os.Stat(filepath.Join(state, "repository")); err != nil { // as the client's, it is made before
		if _, err := opener(nil)(state); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	impl, err := opener(nil)(state)
	if err != nil {
		t.Fatal(err)
	}
	s, err := impl.Save(context.Background(), &pluginv1.SaveRequest{Root: root}, nil)
	if err != nil || s.GetFiles() != 20_000 || len(s.GetFailures()) > 0 {
		t.Fatalf("%v, %v", s, err)
	}
	return time.Since(began)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
