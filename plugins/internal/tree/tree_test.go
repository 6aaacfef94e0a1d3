package tree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPaths(t *testing.T) {
	for path, local := range map[Path]bool{
		"a": true, "a/b": true, "..a": true, "a b\n": true, "\xff": true,
		"": false, ".": false, "..": false, "../a": false, "/a": false, "a/": false, "a//b": false, "./a": false, "a/../b": false, "a\x00": false,
	} {
		if path.Local() != local {
			t.Errorf("%q: local is %v", string(path), !local)
		}
		text, err := json.Marshal(path)
		var back Path
		if err := errors.Join(err, json.Unmarshal(text, &back)); err != nil || back != path {
			t.Errorf("%q comes back as %q, %v", string(path), string(back), err)
		}
	}
	if !Path("a/b").Beneath("a") || !Path("a").Beneath("a") || Path("ab").Beneath("a") {
		t.Error("what lies beneath what is wrong")
	}
}

func TestCheckEntries(t *testing.T) {
	good := func() []*Entry {
		return []*Entry{
			{Path: "dir", Type: TypeDir}, {Path: "dir/file", Type: TypeFile, Size: 5}, {Path: "link", Type: TypeFile, Size: 5, HardLink: "dir/file"},
		}
	}
	if err := CheckEntries(good()); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func([]*Entry){
		"twice":                  func(e []*Entry) { e[2].Path = "dir" },
		"no directory":           func(e []*Entry) { e[0].Type = TypeSymlink },
		"its directory is later": func(e []*Entry) { e[0], e[1] = e[1], e[0] },
		"linked with no file":    func(e []*Entry) { e[2].HardLink = "dir" },
	} {
		entries := good()
		spoil(entries)
		if CheckEntries(entries) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	kept, failed := Orphans(good()[1:], nil)
	if len(kept) != 1 || kept[0].Path != "link" || len(failed) != 1 || failed[0].Path != "dir/file" {
		t.Errorf("without its directory: kept %v, failed %v", kept, failed)
	}
}

// A file with holes is read as its extents, and its digest is that of all of it.
func TestHoles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("data"), 1<<20)
	if err := errors.Join(err, f.Truncate(3<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	root, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	e, content, err := Read(&Reader{Tree: root, Limit: 1 << 20}, "image", func(*Entry) *memory { return &memory{} })
	if err != nil || content.discarded {
		t.Fatal(err)
	}
	if e.Sparse && (int64(content.Len()) != e.Stored() || e.Stored() > 1<<20) {
		t.Errorf("%d bytes were read of extents %v", content.Len(), e.Extents)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(whole)
	got := Digest(&e, func(w io.Writer) error { _, err := w.Write(content.Bytes()); return err })
	if !bytes.Equal(got, want[:]) {
		t.Errorf("the digest is %x, want %x", got, want)
	}
	if Digest(&e, func(io.Writer) error { return io.ErrUnexpectedEOF }) != nil {
		t.Error("there is a digest of what could not be read")
	}
}

// memory is a content that is kept.
type memory struct {
	bytes.Buffer
	discarded bool
}

// Discard implements [Content].
func (m *memory) Discard() { m.discarded = true }

// What fails for a reason of its own is a failure of its path; what is fatal, or
// that nobody listens any more, ends everything.
func TestDescribe(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	root, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	scan, err := NewScan(t.Context(), root, Selection{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	d := &Describer{
		Scan: scan, Count: func(int64, int64) error { return nil }, Fatal: NoSpace,
		File: func(n *Node) (Entry, error) {
			if n.Path == "b" {
				return Entry{}, errors.New("it is locked")
			}
			return EntryOf(n.Path, &n.Stat), nil
		},
	}
	entries, failed, err := d.Run(t.Context())
	if err != nil || len(entries) != 2 || entries[1].HardLink != "a" || !slices.Equal(failed, []Failure{{"b", "it is locked"}}) {
		t.Errorf("entries %v, failed %v, %v", entries, failed, err)
	}
	d.File = func(*Node) (Entry, error) { return Entry{}, unix.ENOSPC }
	if _, _, err := d.Run(t.Context()); !NoSpace(err) {
		t.Errorf("on a full disk: %v", err)
	}
	d.File = func(n *Node) (Entry, error) { return EntryOf(n.Path, &n.Stat), nil }
	d.Count = func(int64, int64) error { return context.Canceled }
	if _, _, err := d.Run(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody listens: %v", err)
	}
}
