package workspace

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// faulty walks root with single system calls replaced.
func faulty(t *testing.T, root string, opt Options, replace func(*system)) *Manifest {
	t.Helper()
	m, err := faultyErr(t, root, opt, replace)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func faultyErr(t *testing.T, root string, opt Options, replace func(*system)) (*Manifest, error) {
	t.Helper()
	w, err := NewWalker(root, opt)
	if err != nil {
		t.Fatal(err)
	}
	replace(&w.sys)
	return w.Walk(bg)
}

func wantLost(t *testing.T, m *Manifest, code Code, incomplete ...string) {
	t.Helper()
	if !slices.Equal(m.Incomplete, incomplete) {
		t.Errorf("incomplete %q, want %q", m.Incomplete, incomplete)
	}
	if len(m.Diagnostics) != 1 || m.Diagnostics[0].Code != code || m.Diagnostics[0].Path != incomplete[0] {
		t.Errorf("diagnostics %v, want one %s for %s", m.Diagnostics, code, incomplete[0])
	}
}

func TestWalkAttributes(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.write(t, map[string]string{"a/b.go": "12345", "a-b": "", "a/testdata/x/y": "", "testdata2/z": "", "empty/": ""})
	m := s.walk(t, Options{})
	wantPaths(t, pathsOf(m), []string{"a-b", "a/b.go", "a/testdata/x/y", "testdata2/z"})
	f, _ := m.File("a/b.go")
	info, err := os.Stat(filepath.Join(s.root, "a/b.go"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Size != 5 || f.ModTime != info.ModTime().UnixNano() || f.Inode == 0 || f.Mode&0o777 != uint32(info.Mode().Perm()) || f.CTime == 0 || f.Testdata {
		t.Errorf("%+v", f)
	}
	if f, _ = m.File("a/testdata/x/y"); !f.Testdata {
		t.Error("testdata is not flagged")
	}
	if f, _ = m.File("testdata2/z"); f.Testdata {
		t.Error("testdata2 is flagged")
	}
	if got := slices.Collect(m.Dirs()); !slices.Equal(got, []string{".", "a", "a/testdata", "a/testdata/x", "testdata2"}) {
		t.Errorf("dirs %q", got)
	}
	if n := len(m.Under("a")); n != 2 || len(m.Under(".")) != 4 || len(m.Under("a/b.go")) != 0 {
		t.Errorf("%d files under a", n)
	}
}

func TestSkips(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.git(t, "init", "-q")
	s.write(t, map[string]string{
		".gitignore": "*.o\nbuild/\n", "x.o": "", "build/a": "", "d/y.o": "", "keep": "",
		"vendor/a": "", "d/node_modules/a": "", "third_party/a": "", "bower_components/a": "", "lib/site-packages/a": "", "Godeps/a": "",
		"venv/a": "", ".venv/pyvenv.cfg": "", ".venv/a": "", "e/venv/pyvenv.cfg": "",
		"sub/.git/HEAD": "x", "sub/a": "", "mod/.git": "gitdir: ../.git/modules/mod", "mod/a": "",
	})
	if err := errors.Join(os.Symlink("keep", filepath.Join(s.root, "link")), os.Symlink("..", filepath.Join(s.root, "d", "loop"))); err != nil {
		t.Fatal(err)
	}
	m := s.walk(t, Options{})
	wantPaths(t, pathsOf(m), []string{".gitignore", "keep", "venv/a"})
	want := Skipped{
		IgnoredDirs: 1, IgnoredFiles: 2, VendoredDirs: 8, NestedRepos: 2, Symlinks: 2,
		Vendored: []string{".venv", "Godeps", "bower_components", "d/node_modules", "e/venv", "lib/site-packages", "third_party", "vendor"},
	}
	slices.Sort(m.Skipped.Vendored)
	got := m.Skipped
	if !slices.Equal(got.Vendored, want.Vendored) {
		t.Errorf("vendored %q", got.Vendored)
	}
	got.Vendored, want.Vendored = nil, nil
	if got.IgnoredDirs != want.IgnoredDirs || got.IgnoredFiles != want.IgnoredFiles || got.VendoredDirs != want.VendoredDirs ||
		got.NestedRepos != want.NestedRepos || got.Symlinks != want.Symlinks {
		t.Errorf("skipped %+v", got)
	}
	if m = s.walk(t, Options{Vendored: true}); !m.Has("vendor/a") || !m.Has(".venv/a") || m.Skipped.VendoredDirs != 0 {
		t.Errorf("with vendored trees: %q", pathsOf(m))
	}
}

func TestExclude(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.git(t, "init", "-q")
	s.write(t, map[string]string{".gitignore": "*.o\n", "a.o": "", "b.o": "", "gen/a": "", "d/gen/a": "", "t": ""})
	s.git(t, "add", "t")
	m := s.walk(t, Options{Exclude: []string{"/gen/", "t", "!b.o", ".gitignore"}})
	wantPaths(t, pathsOf(m), []string{"b.o", "d/gen/a"})
}

func TestOddFiles(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.write(t, map[string]string{"ok é": "", "bad\xff": "", "tab\there": "", "new\nline/x": "", "del\x7f": "", "c1\u0085": "", "gone.o\x01": "", ".gitignore": "*.o?"})
	if err := unix.Mkfifo(filepath.Join(s.root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(s.root, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	sparse := filepath.Join(s.root, "sparse")
	writeFile(t, sparse, "")
	if err := os.Truncate(sparse, 1<<30); err != nil {
		t.Fatal(err)
	}
	m := s.walk(t, Options{})
	wantPaths(t, pathsOf(m), []string{".gitignore", "ok é", "sparse"})
	if f, _ := m.File("sparse"); f.Size != 1<<30 {
		t.Errorf("sparse file of %d bytes", f.Size)
	}
	if m.Skipped.BadNames != 5 || m.Skipped.Special != 2 || m.Skipped.IgnoredFiles != 1 || len(m.Diagnostics) != 7 || len(m.Incomplete) != 0 {
		t.Errorf("%+v\n%v", m.Skipped, m.Diagnostics)
	}
	for _, d := range m.Diagnostics {
		if !printable(d.Path) {
			t.Errorf("unquoted path %q", d.Path)
		}
	}
}

func TestFifoAsIgnoreFile(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.write(t, map[string]string{"a": "", "d/.gitignore/x": "", "e/b": "", "rules": "b"})
	err := errors.Join(unix.Mkfifo(filepath.Join(s.root, ".gitignore"), 0o600), os.Symlink("../rules", filepath.Join(s.root, "e", ".gitignore")))
	if err != nil {
		t.Fatal(err)
	}
	m := s.walk(t, Options{})
	wantPaths(t, pathsOf(m), []string{"a", "d/.gitignore/x", "e/b", "rules"})
}

func TestDeepTree(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	deep := strings.Repeat("d/", 300) + "f"
	s.write(t, map[string]string{deep: "", "z": ""})
	m := s.walk(t, Options{})
	wantPaths(t, pathsOf(m), []string{deep, "z"})

	m = s.walk(t, Options{MaxDepth: 100})
	wantPaths(t, pathsOf(m), []string{"z"})
	wantLost(t, m, CodeTooDeep, strings.TrimSuffix(strings.Repeat("d/", 101), "/"))
}

func TestTooManyFiles(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.write(t, map[string]string{"a/1": "", "a/2": "", "b/3": "", "b/4": ""})
	m := s.walk(t, Options{MaxFiles: 3})
	wantPaths(t, pathsOf(m), []string{"a/1", "a/2", "b/3"})
	wantLost(t, m, CodeTooMany, ".")
	if m.Covers("b/4") {
		t.Error("b/4 is covered")
	}
	if m = s.walk(t, Options{MaxFiles: 4}); len(m.Incomplete) != 0 {
		t.Errorf("incomplete %q", m.Incomplete)
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.write(t, map[string]string{"a/x": "", "b/c/x": "", "b/y": "", "z": ""})
	cases := []struct {
		name    string
		replace func(*system)
		code    Code
		lost    string
		lists   []string
	}{
		{"no permission", func(sys *system) {
			open := sys.openDir
			sys.openDir = func(parent int, name string) (int, error) {
				if name == "b" {
					return -1, unix.EACCES
				}
				return open(parent, name)
			}
		}, CodeUnreadable, "b", []string{"a/x", "z"}},
		{"no descriptors left", func(sys *system) {
			open := sys.openDir
			sys.openDir = func(parent int, name string) (int, error) {
				if name == "c" {
					return -1, unix.EMFILE
				}
				return open(parent, name)
			}
		}, CodeUnreadable, "b/c", []string{"a/x", "b/y", "z"}},
		{"removed while it is read", func(sys *system) {
			calls := 0
			getdents := sys.getdents
			sys.getdents = func(fd int, buf []byte) (int, error) {
				if calls++; calls == 3 { // two for the root
					return 0, unix.ENOENT
				}
				return getdents(fd, buf)
			}
		}, CodeVanished, "a", []string{"b/c/x", "b/y", "z"}},
		{"attributes refused", func(sys *system) {
			stat := sys.stat
			sys.stat = func(parent int, name string, st *unix.Stat_t) error {
				if name == "x" {
					return unix.EIO
				}
				return stat(parent, name, st)
			}
		}, CodeUnreadable, "a", []string{"b/y", "z"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := faulty(t, s.root, Options{}, c.replace)
			wantPaths(t, pathsOf(m), c.lists)
			if c.name == "attributes refused" {
				if !slices.Equal(m.Incomplete, []string{"a", "b/c"}) {
					t.Errorf("incomplete %q", m.Incomplete)
				}
				return
			}
			wantLost(t, m, c.code, c.lost)
		})
	}
}

func TestUnreadableForReal(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root may read any directory; TestUnreadable injects the error instead")
	}
	s := newSandbox(t)
	s.write(t, map[string]string{"a/x": "", "z": ""})
	if err := os.Chmod(filepath.Join(s.root, "a"), 0); err != nil {
		t.Fatal(err)
	}
	m := s.walk(t, Options{})
	if err := os.Chmod(filepath.Join(s.root, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	wantLost(t, m, CodeUnreadable, "a")
}

// TestChangesMidWalk makes real changes to the tree right before a directory is opened.
func TestChangesMidWalk(t *testing.T) {
	t.Parallel()
	before := func(dir string, change func(root string) error) func(*testing.T, string) *Manifest {
		return func(t *testing.T, root string) *Manifest {
			return faulty(t, root, Options{}, func(sys *system) {
				open := sys.openDir
				sys.openDir = func(parent int, name string) (int, error) {
					if name == dir {
						if err := change(root); err != nil {
							t.Error(err)
						}
					}
					return open(parent, name)
				}
			})
		}
	}
	cases := []struct {
		name       string
		walk       func(*testing.T, string) *Manifest
		lists      []string
		incomplete []string
	}{
		{"directory vanishes", before("b", func(root string) error { return os.RemoveAll(filepath.Join(root, "b")) }), []string{"a/x", "z"}, []string{"b"}},
		{"directory becomes a link to the outside", before("b", func(root string) error {
			return errors.Join(os.RemoveAll(filepath.Join(root, "b")), os.Symlink("/etc", filepath.Join(root, "b")))
		}), []string{"a/x", "z"}, []string{"b"}},
		{"directory becomes a file", before("b", func(root string) error {
			return errors.Join(os.RemoveAll(filepath.Join(root, "b")), os.WriteFile(filepath.Join(root, "b"), nil, 0o600))
		}), []string{"a/x", "z"}, []string{"b"}},
		{"file vanishes", before("a", func(root string) error { return os.Remove(filepath.Join(root, "z")) }), []string{"a/x", "b/y"}, nil},
		{"file becomes a link", before("a", func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "z")), os.Symlink("/etc/passwd", filepath.Join(root, "z")))
		}), []string{"a/x", "b/y"}, []string{"z"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			s.write(t, map[string]string{"a/x": "", "b/y": "", "z": ""})
			m := c.walk(t, s.root)
			wantPaths(t, pathsOf(m), c.lists)
			if !slices.Equal(m.Incomplete, c.incomplete) {
				t.Errorf("incomplete %q, want %q", m.Incomplete, c.incomplete)
			}
			for _, d := range m.Diagnostics {
				if d.Code != CodeVanished {
					t.Errorf("%s: %s", d.Code, d)
				}
			}
		})
	}
}

// TestUnknownTypes stands for file systems whose directories do not tell the types.
func TestUnknownTypes(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.git(t, "init", "-q")
	s.write(t, map[string]string{"a/x": "", "b/.gitignore": "y/", "b/y/z": "", "c/y": "", "z": ""})
	if err := os.Symlink("a", filepath.Join(s.root, "l")); err != nil {
		t.Fatal(err)
	}
	m := faulty(t, s.root, Options{}, func(sys *system) {
		getdents := sys.getdents
		sys.getdents = func(fd int, buf []byte) (int, error) {
			n, err := getdents(fd, buf)
			for at := 0; at < n; at += int(buf[at+16]) | int(buf[at+17])<<8 {
				buf[at+18] = unix.DT_UNKNOWN
			}
			return n, err
		}
	})
	wantPaths(t, pathsOf(m), s.seen(t))
	if m.Skipped.Symlinks != 1 {
		t.Errorf("%+v", m.Skipped)
	}
}

func TestRootErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	writeFile(t, file, "")
	for _, root := range []string{filepath.Join(dir, "no"), file} {
		if _, err := Walk(bg, root, Options{}); err == nil || !strings.Contains(err.Error(), root) {
			t.Errorf("%s: %v", root, err)
		}
	}
	_, err := faultyErr(t, dir, Options{}, func(sys *system) {
		sys.getdents = func(int, []byte) (int, error) { return 0, unix.EIO }
	})
	if !errors.Is(err, unix.EIO) {
		t.Errorf("unreadable root: %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if m, err := Walk(bg, link, Options{}); err != nil || !m.Has("f") {
		t.Errorf("root through a link: %v", err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.write(t, map[string]string{"a/x": "", "b/y": ""})
	ctx, cancel := context.WithCancel(bg)
	w, err := NewWalker(s.root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	open := w.sys.openDir
	opened := 0
	w.sys.openDir = func(parent int, name string) (int, error) {
		opened++
		cancel()
		return open(parent, name)
	}
	for range 2 {
		if _, err := w.Walk(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("err %v", err)
		}
	}
	if opened != 1 {
		t.Errorf("%d directories opened after the cancellation", opened-1)
	}
}

func TestDescriptorsAreClosed(t *testing.T) {
	// Not parallel: counts the descriptors of the process.
	s := newSandbox(t)
	s.write(t, map[string]string{"a/b/x": "", "b/.gitignore": "x", "c/.git/HEAD": "", "vendor/x": ""})
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	s.walk(t, Options{})
	before := count()
	for range 20 {
		s.walk(t, Options{})
		s.walk(t, Options{MaxFiles: 1, MaxDepth: 1})
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestConcurrentWalks(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.git(t, "init", "-q")
	s.write(t, map[string]string{".gitignore": "*.o", "a.o": "", "b": ""})
	s.git(t, "add", "-f", "a.o")
	w, err := NewWalker(s.root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan []string)
	for range 8 {
		go func() {
			m, err := w.Walk(bg)
			if err != nil {
				t.Error(err)
				m = &Manifest{}
			}
			done <- pathsOf(m)
		}()
	}
	for range 8 {
		wantPaths(t, <-done, []string{".gitignore", "a.o", "b"})
	}
}

// settle lets the files written so far become clearly older than the next walk.
func settle() { time.Sleep(time.Duration(3 * granularity)) }

// Links that lead in circles are reported; others are only counted.
func TestLinkLoops(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"self": "self", "one": "two", "two": "one", "up": "..", "a/b/root": "../..", "a/b/here": ".", "a/b/same": "../b", // loops
		"a/side": "b", "dangling": "nowhere", "outside": "/etc", "a/away": "../../elsewhere", // none
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Walk(t.Context(), root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var loops []string
	for _, d := range m.Diagnostics {
		if d.Code == CodeLoop {
			loops = append(loops, d.Path)
		}
	}
	slices.Sort(loops)
	want := []string{"a/b/here", "a/b/root", "a/b/same", "one", "self", "two", "up"}
	if !slices.Equal(loops, want) || m.Skipped.Symlinks != 11 || len(m.Incomplete) != 0 {
		t.Errorf("loops %v, want %v; %d links; incomplete %v", loops, want, m.Skipped.Symlinks, m.Incomplete)
	}
}
