package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sop-host/sop/plugins/internal/tree"
)

// sample has one of everything.
func sample() *manifest {
	sum := digestOf([]byte("content"))
	m := &manifest{
		entries: []*tree.Entry{
			{Path: "dir", Type: tree.TypeDir, Mode: 0o1755, Ancestor: true},
			{Path: "dir/a\n\xff", Type: tree.TypeFile, Mode: 0o644, UID: 1, GID: 2, Size: 7, Object: string(sum), Modified: tree.Stamp{-1, 5}, Xattrs: []tree.Xattr{{Name: "user.\xfe", Value: []byte{0, 1}}}},
			{Path: "dir/b", Type: tree.TypeFile, Size: 7, Object: string(sum), HardLink: "dir/a\n\xff"},
			{Path: "holes", Type: tree.TypeFile, Size: 100, Object: string(sum), Sparse: true, Extents: []tree.Extent{{5, 2}, {90, 10}}},
			{Path: "link<&>", Type: tree.TypeSymlink, Target: "../\xfd"},
			{Path: "dev", Type: tree.TypeChar, Device: 0x103},
		},
		failures: []tree.Failure{{Path: "gone", Message: "it does not exist"}},
	}
	m.Seq, m.ID, m.CreatedAt, m.Root = 12, newID(12), time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), "/srv/\xfc"
	m.Labels, m.Parent = map[string]string{"task": "t"}, &link{newID(11), sum}
	return m
}

func encoded(t testing.TB, m *manifest) []byte {
	t.Helper()
	text, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestManifestRoundTrip(t *testing.T) {
	want := sample()
	got, err := parseManifest(encoded(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(manifest{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What a manifest must not say is refused although its checksum is right.
func TestManifestRefuses(t *testing.T) {
	for name, spoil := range map[string]func(m *manifest){
		"absolute path":       func(m *manifest) { m.entries[4].Path = "/etc/passwd" },
		"path that leads out": func(m *manifest) { m.entries[4].Path = "dir/../../x" },
		"dots":                func(m *manifest) { m.entries[4].Path = ".." },
		"NUL":                 func(m *manifest) { m.entries[4].Path = "a\x00" },
		"path twice":          func(m *manifest) { m.entries[4].Path = "holes" },
		"beneath a link":      func(m *manifest) { m.entries[5].Path = "link<&>/x" },
		"beneath nothing":     func(m *manifest) { m.entries[5].Path = "nowhere/x" },
		"link with a dir":     func(m *manifest) { m.entries[2].HardLink = "dir" },
		"link outwards":       func(m *manifest) { m.entries[2].HardLink = "../x" },
		"object by path":      func(m *manifest) { m.entries[1].Object = "../../../etc/passwd" },
		"negative size":       func(m *manifest) { m.entries[1].Size = -1 },
		"extent beyond end":   func(m *manifest) { m.entries[3].Extents[1][1] = 11 },
		"extent overflow":     func(m *manifest) { m.entries[3].Extents[1][0] = 1<<63 - 1 },
		"extents overlap":     func(m *manifest) { m.entries[3].Extents[1][0] = 6 },
		"unknown type":        func(m *manifest) { m.entries[5].Type = "portal" },
		"link to nothing":     func(m *manifest) { m.entries[4].Target = "" },
		"other id":            func(m *manifest) { m.ID = newID(13) },
		"id with a path":      func(m *manifest) { m.ID = "000000000012-../../xy" },
		"parent of itself":    func(m *manifest) { m.Parent.ID = m.ID },
	} {
		m := sample()
		spoil(m)
		if _, err := parseManifest(encoded(t, m)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	text := string(encoded(t, sample()))
	for name, spoiled := range map[string]string{
		"empty":          "",
		"cut":            text[:len(text)-1],
		"changed":        strings.Replace(text, "0644", "0666", 1),
		"line left out":  strings.Replace(text, strings.SplitAfter(text, "\n")[3], "", 1),
		"something else": "{}\n{}\n",
	} {
		if _, err := parseManifest([]byte(spoiled)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzManifest: whatever is accepted leads nowhere else, and says the same when
// it is written again.
func FuzzManifest(f *testing.F) {
	body := func(m *manifest) []byte {
		text, _, err := splitEnd(encoded(f, m))
		if err != nil {
			f.Fatal(err)
		}
		return text
	}
	f.Add(body(sample()))
	small := sample()
	small.entries, small.failures, small.Parent = nil, nil, nil
	f.Add(body(small))
	f.Fuzz(func(t *testing.T, body []byte) {
		// The checksum is made right: what is behind it is to be tried.
		m, err := parseManifest([]byte(string(body) + `{"end":{"sha256":"` + string(digestOf(body)) + `"}}` + "\n"))
		if err != nil {
			return
		}
		for _, e := range m.entries {
			if !e.Path.Local() || e.Stored() < 0 || e.Type == tree.TypeFile && (!digest(e.Object).valid() || e.Stored() > e.Size) {
				t.Fatalf("accepted %+v", e)
			}
		}
		again, err := parseManifest(encoded(t, m))
		if err != nil {
			t.Fatalf("not accepted again: %v", err)
		}
		if diff := cmp.Diff(m, again, cmp.AllowUnexported(manifest{})); diff != "" {
			t.Fatal(diff)
		}
	})
}
