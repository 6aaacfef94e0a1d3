package workspace

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"time"
)

// File is one regular file of a workspace.
type File struct {
	Path     string // relative to the root, slash-separated, printable UTF-8
	Size     int64  // bytes
	ModTime  int64  // UnixNano
	CTime    int64  // UnixNano; 0 for a file that Baseline carried over
	Inode    uint64
	Mode     uint32 // st_mode: type and permissions
	Testdata bool   // a directory on the way to it is called testdata
}

// sameAs reports whether nothing that stat(2) tells about the contents differs.
func (f *File) sameAs(g *File) bool {
	return f.Size == g.Size && f.ModTime == g.ModTime && f.CTime == g.CTime && f.Inode == g.Inode
}

// Manifest is what one walk found. It is not changed once Walk has returned it and may be read concurrently.
type Manifest struct {
	Root     string // absolute
	Files    []File // sorted by Path, bytewise
	Skipped  Skipped
	WalkedAt int64         // UnixNano, when the walk began
	Took     time.Duration // how long it was under way

	// Diagnostics say what the walk could not do or did not expect, in the order of the walk; at most
	// MaxDiagnostics, the others are counted.
	Diagnostics        []Diagnostic
	DiagnosticsOmitted int

	// Incomplete are the paths, sorted, at and below which there may be files that are not listed; "." for
	// everywhere. That a file is missing from Files means nothing there; see Covers.
	Incomplete []string

	// Revision identifies the contents of Files and Incomplete by what stat(2) tells: two manifests of one root
	// with equal revisions have the same files, unchanged. A walk that met a racily clean file (see Compare) has
	// a revision of its own.
	Revision string
}

// Skipped counts what a walk passed over on purpose. What is inside a skipped directory is not counted.
type Skipped struct {
	IgnoredDirs  int
	IgnoredFiles int // of any type but directory
	VendoredDirs int
	Vendored     []string // paths of the first MaxVendored of them
	NestedRepos  int      // also submodules
	Symlinks     int
	Special      int // fifos, sockets and devices
	BadNames     int // not UTF-8, or with control characters
}

// How much detail a manifest keeps.
const (
	MaxDiagnostics = 1000
	MaxVendored    = 100
)

// Code says what a Diagnostic is about.
type Code string

// The codes of diagnostics.
const (
	CodeUnreadable Code = "unreadable" // a directory, or the attributes of what is in it
	CodeVanished   Code = "vanished"   // a directory that went, or became something else, during the walk
	CodeSpecial    Code = "special"    // a fifo, a socket or a device
	CodeBadName    Code = "bad_name"   // Path is quoted as in Go
	CodeLoop       Code = "link_loop"  // a link to itself, or to a directory that it lies in
	CodeTooDeep    Code = "too_deep"   // Options.MaxDepth
	CodeTooMany    Code = "too_many"   // Options.MaxFiles
	CodeGit        Code = "git"        // an ignore file, an index or a configuration file; Path may be absolute
)

// Diagnostic is one thing an operator may want to know about a walk.
type Diagnostic struct {
	Path    string // relative to the root, "." for the root
	Code    Code
	Message string // a sentence for people
}

func (d Diagnostic) String() string { return fmt.Sprintf("%s: %s", d.Path, d.Message) }

// Has reports whether path is listed.
func (m *Manifest) Has(path string) bool {
	_, ok := m.File(path)
	return ok
}

// File returns the listed file at path.
func (m *Manifest) File(path string) (File, bool) {
	i, ok := slices.BinarySearchFunc(m.Files, path, func(f File, path string) int { return strings.Compare(f.Path, path) })
	if !ok {
		return File{}, false
	}
	return m.Files[i], true
}

// Under returns the files below the directory dir, "." for all. The slice is part of Files.
func (m *Manifest) Under(dir string) []File {
	if dir == "." {
		return m.Files
	}
	from := sort.Search(len(m.Files), func(i int) bool { return m.Files[i].Path >= dir+"/" })
	to := sort.Search(len(m.Files), func(i int) bool { return m.Files[i].Path >= dir+"0" }) // '0' follows '/'
	return m.Files[from:to]
}

// Dirs yields every directory that has a listed file below it, once, parents first and beginning with ".".
func (m *Manifest) Dirs() iter.Seq[string] {
	return func(yield func(string) bool) {
		if len(m.Files) > 0 && !yield(".") {
			return
		}
		before := ""
		for i := range m.Files {
			path := m.Files[i].Path
			// A directory that the path before was in as well has been yielded: its files stand together.
			for at := sharedDir(before, path); ; {
				n := strings.IndexByte(path[at:], '/')
				if n < 0 {
					break
				}
				if !yield(path[:at+n]) {
					return
				}
				at += n + 1
			}
			before = path
		}
	}
}

// sharedDir is the length of the longest directory path, with its slash, that starts both a and b.
func sharedDir(a, b string) int {
	end := 0
	for i := 0; i < len(a) && i < len(b) && a[i] == b[i]; i++ {
		if a[i] == '/' {
			end = i + 1
		}
	}
	return end
}

// Covers reports whether the walk would have listed path had it been there: only then may its absence be taken for
// a removal.
func (m *Manifest) Covers(path string) bool {
	if len(m.Incomplete) == 0 {
		return true
	}
	if m.lost(".") || m.lost(path) {
		return false
	}
	for i, c := range path {
		if c == '/' && m.lost(path[:i]) {
			return false
		}
	}
	return true
}

func (m *Manifest) lost(path string) bool {
	_, found := slices.BinarySearch(m.Incomplete, path)
	return found
}

// granularity is the coarsest step, in nanoseconds, by which a file system's clock is assumed to advance.
const granularity = int64(10 * time.Millisecond)

// racy reports whether f may have been written to after m's walk looked at it without a trace in its times. A change
// time cannot be set, so one that is not clearly older than the walk is enough; a modification time counts only when
// it lies within the walk, since a file may well carry one from the future for good.
func (m *Manifest) racy(f *File) bool {
	from := m.WalkedAt - granularity
	return f.CTime >= from || f.ModTime >= from && f.ModTime <= m.WalkedAt+int64(m.Took)+granularity
}

// seal puts the finishing touches to a manifest whose files are complete.
func (m *Manifest) seal() {
	slices.Sort(m.Incomplete)
	m.Incomplete = slices.Compact(m.Incomplete)
	m.Revision = m.revision()
}

func (m *Manifest) revision() string {
	h := sha256.New()
	buf := make([]byte, 0, 16<<10)
	racy := false
	flush := func() {
		h.Write(buf) // never fails
		buf = buf[:0]
	}
	for i := range m.Files {
		f := &m.Files[i]
		racy = racy || m.racy(f)
		buf = append(buf, f.Path...)
		buf = append(buf, 0)
		buf = binary.LittleEndian.AppendUint64(buf, uint64(f.Size))
		buf = binary.LittleEndian.AppendUint64(buf, uint64(f.ModTime))
		buf = binary.LittleEndian.AppendUint64(buf, uint64(f.CTime))
		buf = binary.LittleEndian.AppendUint64(buf, f.Inode)
		if len(buf) > 8<<10 {
			flush()
		}
	}
	buf = append(buf, "\x00incomplete\x00"...)
	for _, path := range m.Incomplete {
		buf = append(append(buf, path...), 0)
	}
	if racy {
		buf = binary.LittleEndian.AppendUint64(append(buf, "\x00racy\x00"...), uint64(m.WalkedAt))
	}
	flush()
	return hex.EncodeToString(h.Sum(nil)[:16])
}
