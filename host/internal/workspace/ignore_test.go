package workspace

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestIgnoreLikeGit takes what each pattern does from git itself; hides and lists guard against a case that tests
// nothing.
func TestIgnoreLikeGit(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		ignore string            // .gitignore at the root
		more   map[string]string // other files with contents
		files  string            // space-separated; "~" stands for a space
		hides  string            // some of files
		lists  string            // some of files
	}{
		{name: "name anywhere", ignore: "foo", files: "foo a/foo a/foob foo2/x b/foo/c", hides: "foo a/foo b/foo/c", lists: "a/foob foo2/x"},
		{name: "directories only", ignore: "out/", files: "out a/out/x a/b/out", hides: "a/out/x", lists: "out a/b/out"},
		{name: "anchored", ignore: "/foo\n/b/*.o", files: "foo a/foo b/x.o a/b/x.o b/c/x.o", hides: "foo b/x.o", lists: "a/foo a/b/x.o b/c/x.o"},
		{name: "anchored by a slash inside", ignore: "a/foo", files: "a/foo b/a/foo a/foo2", hides: "a/foo", lists: "b/a/foo a/foo2"},
		{name: "negation", ignore: "*.log\n!keep.log\n", files: "a.log keep.log d/keep.log", hides: "a.log", lists: "keep.log d/keep.log"},
		{name: "last one wins", ignore: "*.log\n!keep.log\nkeep.*\n", files: "keep.log", hides: "keep.log"},
		{name: "order between kinds of rules", ignore: "*.c\n!a.c\na.[c]\n!/a.c\n!b?c\nb.c", files: "a.c b.c c.c", hides: "b.c c.c", lists: "a.c"},
		{name: "nothing comes back from below an ignored directory", ignore: "d/\n!d/keep\n!d/e/", files: "d/keep d/e/f", hides: "d/keep d/e/f"},
		{name: "contents ignored, one back", ignore: "d/*\n!d/keep", files: "d/keep d/x d/e/f", hides: "d/x d/e/f", lists: "d/keep"},
		{name: "everything but", ignore: "/*\n!/src\n!*.md", files: "src/a b/c a.md x b/x.md", hides: "b/c x b/x.md", lists: "src/a a.md"},
		{name: "leading deep star", ignore: "**/foo\n**/d/e", files: "foo a/foo a/b/foo d/e a/d/e", hides: "foo a/foo a/b/foo d/e a/d/e"},
		{name: "trailing deep star", ignore: "a/**", files: "a/x a/b/c b/a/x", hides: "a/x a/b/c", lists: "b/a/x"},
		{name: "inner deep star", ignore: "a/**/z", files: "a/z a/b/z a/b/c/z b/a/z a/bz", hides: "a/z a/b/z a/b/c/z", lists: "b/a/z a/bz"},
		{name: "deep star in a word", ignore: "a**/z\nq/x**y", files: "a/z a/b/z ab/c/z q/xy q/x/y q/xxy", hides: "a/z q/xy q/xxy", lists: "q/x/y"},
		{name: "star does not cross a slash", ignore: "a/*/z\n/b*c", files: "a/b/z a/z a/b/c/z bc b/c bxc", hides: "a/b/z bc bxc", lists: "a/z a/b/c/z b/c"},
		{name: "many stars", ignore: "/a***b\n***/c\nd/***", files: "ab a/b x/c d/e", hides: "ab x/c d/e"},
		{name: "question mark", ignore: "a?c\nd/?/e", files: "abc ac a/c d/x/e d/e", hides: "abc d/x/e", lists: "ac a/c d/e"},
		{name: "trailing space", ignore: "foo  \nbar\\ \nbaz\\  \nqux \\ \n", files: "foo foo~~ bar~ bar baz~ baz~~ qux~~", hides: "foo bar~ baz~ qux~~", lists: "bar baz~~ foo~~"},
		{name: "trailing tab stays", ignore: "foo\t\n", files: "foo", lists: "foo"},
		{name: "leading space stays", ignore: " foo", files: "foo ~foo", hides: "~foo", lists: "foo"},
		{name: "comment", ignore: "#foo\n\\#bar\n", files: "#foo #bar", hides: "#bar", lists: "#foo"},
		{name: "escaped exclamation mark", ignore: "\\!foo\n", files: "!foo foo", hides: "!foo", lists: "foo"},
		{name: "twice negated", ignore: "*\n!!x\n", files: "!x x", hides: "x", lists: "!x"},
		{name: "escapes", ignore: "a\\*b\n\\f\\o\\o\nend\\\nc\\[d\n", files: "a*b axb foo end end\\ c[d", hides: "a*b foo c[d", lists: "axb end end\\"},
		{name: "class", ignore: "[abc]x\n[!a-c]y\n[^a-c]z\n", files: "ax dx ay dy az dz", hides: "ax dy dz", lists: "dx ay az"},
		{name: "class oddities", ignore: "[]]1\n[!]]2\n[]-]3\n[a-]4\n[-a]5\n[\\]]6\n[a\\-c]7\n[a-c-e]8\n[c-a]9", files: "]1 a2 ]2 -3 -4 -5 ]6 b7 -7 -8 d8 b9", hides: "]1 a2 -3 -4 -5 ]6 -7 -8", lists: "]2 b7 d8 b9"},
		{name: "named class", ignore: "[[:alpha:]]1\n[[:digit:][:upper:]]2\n[![:space:]]3\n[[:nope:]]4\n[[:alpha]5\n[[:]6\n[[:alnum:]-z]7", files: "a1 11 Z2 92 a2 a3 ~3 a4 a5 :5 :6 [6 -7", hides: "a1 Z2 92 a3 a5 :6", lists: "11 a2 ~3 a4"},
		{name: "all named classes", ignore: "[[:alnum:]]a\n[[:blank:]]b\n[[:graph:]]c\n[[:lower:]]d\n[[:print:]]e\n[[:punct:]]f\n[[:xdigit:]]g\n[[:cntrl:]]h", files: "1a -a ~b ab ~c -c ad Ad ~e ée -f af ~f fg gg ah", hides: "1a ~b -c ad ~e -f fg", lists: "-a ab ~c Ad af gg ah"},
		{name: "class and slash", ignore: "a[/]b\na[!x]c\na[.-0]d", files: "a/b a/c a.c a/d a0d", lists: "a/b a/c a/d", hides: "a.c a0d"},
		{name: "unclosed class", ignore: "[ab\nx[\n", files: "[ab a x[", lists: "[ab a x["},
		{name: "case", ignore: "Foo\n*.TXT\n", files: "foo Foo a.txt a.TXT", hides: "Foo a.TXT", lists: "foo a.txt"},
		{name: "byte order mark", ignore: "\xef\xbb\xbffoo\nbar", files: "foo bar", hides: "foo bar"},
		{name: "carriage returns", ignore: "foo\r\nbar/\r\n\r\nbaz\r", files: "foo bar/x baz", hides: "foo bar/x baz"},
		{name: "odd lines", ignore: "/\n!\n//\n!/\n\n   \n//foo\nfoo//\n./bar\n", files: "foo bar a/foo", lists: "foo bar a/foo"},
		{name: "zero byte", ignore: "foo\x00bar\nbaz", files: "foo foobar baz", hides: "foo baz", lists: "foobar"},
		{name: "bytes", ignore: "?é\n[é]x\nü*\n", files: "aé üb ax ééx", hides: "aé üb", lists: "ax"},
		{name: "extensions", ignore: "*.tar.gz\n*.o\n*~\n*-x\n*.\n", files: "a.tar.gz .tar.gz a.gz a.o .o a.o.c b-x a. a", hides: "a.tar.gz .tar.gz a.o .o b-x a.", lists: "a.gz a.o.c a"},
		{name: "extension of directories", ignore: "*.d/\n", files: "a.d/x b.d", hides: "a.d/x", lists: "b.d"},
		{name: "all", ignore: "*\n!*/\n!*.go\n", files: "a.go d/b.go d/x x", hides: "d/x x .gitignore", lists: "a.go d/b.go"},
		{
			name: "nested files", ignore: "*.o\n/x", more: map[string]string{"d/.gitignore": "!keep.o\n/x\ne/y\n", "d/e/.gitignore": "keep.o\n!y\n"},
			files: "a.o x d/a.o d/keep.o d/x d/e/x d/e/y d/e/keep.o d/f/e/y", hides: "a.o x d/a.o d/x d/e/keep.o", lists: "d/keep.o d/e/x d/e/y d/f/e/y",
		},
		{
			name: "info/exclude", ignore: "!b\n", more: map[string]string{".git/info/exclude": "a\nb\n/d/c\n"},
			files: "a b x/a d/c x/d/c", hides: "a x/a d/c", lists: "b x/d/c",
		},
		{name: "nested repository", ignore: "x", more: map[string]string{"sub/.git/HEAD": "ref: refs/heads/m\n", "sub/.git/refs/": "", "sub/.git/objects/": ""}, files: "a sub/f", lists: "a", hides: "sub/f"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			s.git(t, "init", "-q")
			for _, f := range strings.Fields(c.files) {
				writeFile(t, filepath.Join(s.root, strings.ReplaceAll(f, "~", " ")), "")
			}
			s.write(t, c.more)
			s.write(t, map[string]string{".gitignore": c.ignore})
			m := s.sameAsGit(t)
			for _, f := range strings.Fields(c.hides) {
				if m.Has(strings.ReplaceAll(f, "~", " ")) {
					t.Errorf("%q is listed", f)
				}
			}
			for _, f := range strings.Fields(c.lists) {
				if !m.Has(strings.ReplaceAll(f, "~", " ")) {
					t.Errorf("%q is not listed", f)
				}
			}
		})
	}
}

func TestTrackedIgnored(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2", "3", "4"} {
		for _, format := range []string{"sha1", "sha256"} {
			t.Run(version+format, func(t *testing.T) {
				t.Parallel()
				s := newSandbox(t)
				s.git(t, "init", "-q", "--object-format="+format)
				s.write(t, map[string]string{
					"out/keep": "", "out/new": "", "out/deep/er/keep": "", "out/deep/new": "", "out2/x": "", "a.o": "", "b.o": "",
					"gone.o": "", "long/path/with/é/a.o": "", "later.o": "",
				})
				s.git(t, "add", "out/keep", "out/deep/er/keep", "a.o", "gone.o", "long")
				if version == "3" {
					s.git(t, "add", "-N", "later.o") // intent to add is an extended flag
				}
				s.git(t, "update-index", "--index-version", version)
				s.write(t, map[string]string{".gitignore": "out*/\n*.o\n"})
				m := s.sameAsGit(t)
				for _, p := range []string{"out/keep", "out/deep/er/keep", "a.o"} {
					if !m.Has(p) {
						t.Errorf("%s is tracked but not listed", p)
					}
				}
				if m.Has("out/new") || m.Has("b.o") {
					t.Error("an ignored file is listed")
				}
			})
		}
	}
}

func TestIndexIsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.git(t, "init", "-q")
	s.write(t, map[string]string{".gitignore": "*.o", "a.o": "", "b.o": ""})
	w, err := NewWalker(s.root, Options{Home: s.home})
	if err != nil {
		t.Fatal(err)
	}
	for _, add := range []string{"", "a.o", "b.o"} {
		if add != "" {
			s.git(t, "add", "-f", add)
		}
		m, err := w.Walk(bg)
		if err != nil {
			t.Fatal(err)
		}
		wantPaths(t, pathsOf(m), s.seen(t))
	}
}

func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.git(t, "init", "-q")
	s.write(t, map[string]string{".gitignore": "*.o", "a.o": "", "b": ""})
	s.write(t, map[string]string{".git/index": "DIRC\x00\x00\x00\x02\xff\xff\xff\xff" + strings.Repeat("x", 100)})
	m := s.walk(t, Options{})
	wantPaths(t, pathsOf(m), []string{".gitignore", "b"})
	if len(m.Diagnostics) != 1 || m.Diagnostics[0].Code != CodeGit {
		t.Errorf("diagnostics: %v", m.Diagnostics)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte("DIRC\x00\x00\x00\x02\x00\x00\x00\x00aaaaaaaaaaaaaaaaaaaa"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = parseIndex(data, 20) // must not panic
	})
}

func TestEnclosingRepository(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.git(t, "init", "-q")
	s.write(t, map[string]string{
		".gitignore": "*.o\n/svc/a/x\n/x\nignored/\n", "svc/.gitignore": "!keep.o\n/a/y\n", "svc/a/.gitignore": "z\n",
		".git/info/exclude": "svc/a/excl\n",
		"svc/a/x":           "", "svc/a/y": "", "svc/a/z": "", "svc/a/a.o": "", "svc/a/keep.o": "", "svc/a/b/x": "", "svc/a/excl": "",
		"svc/a/tracked.o": "", "svc/b/other": "",
		"ignored/a/x": "", "ignored/a/p.o": "", "ignored/a/.gitignore": "q\n", "ignored/a/q": "",
	})
	s.git(t, "add", "-f", "svc/a/tracked.o")
	sub := filepath.Join(s.root, "svc", "a")
	m, err := Walk(bg, sub, Options{Home: s.home, Exclude: []string{"/b/x"}})
	if err != nil {
		t.Fatal(err)
	}
	want := s.seenIn(t, sub)
	want = slices.DeleteFunc(want, func(p string) bool { return p == "b/x" })
	wantPaths(t, pathsOf(m), want)
	if !m.Has("tracked.o") || !m.Has("keep.o") {
		t.Errorf("listed: %q", pathsOf(m))
	}

	m, err = Walk(bg, filepath.Join(s.root, "ignored", "a"), Options{Home: s.home})
	if err != nil {
		t.Fatal(err)
	}
	wantPaths(t, pathsOf(m), []string{".gitignore", "p.o", "x"})
}

func TestLinkedWorkTree(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.git(t, "init", "-q")
	s.write(t, map[string]string{"a": "", "t.o": "", ".git/info/exclude": "*.o\n"})
	s.git(t, "add", "-f", "a", "t.o")
	s.git(t, "commit", "-qm", "x")
	linked := filepath.Join(filepath.Dir(s.root), "linked")
	s.git(t, "worktree", "add", "-q", linked)
	writeFile(t, filepath.Join(linked, "new.o"), "")
	writeFile(t, filepath.Join(linked, "new"), "")
	m, err := Walk(bg, linked, Options{Home: s.home})
	if err != nil {
		t.Fatal(err)
	}
	wantPaths(t, pathsOf(m), s.seenIn(t, linked))
	wantPaths(t, pathsOf(m), []string{"a", "new", "t.o"})
}

// pattern draws a line of an ignore file, mostly made of what the trees below are made of.
func pattern(t *rapid.T, label string) string {
	part := rapid.SampledFrom([]string{
		"a", "b", "ab", "c.o", "A", ".o", "d", "*", "*", "**", "?", "/", "/", "/", "**/", "/**", "[ab]", "[!a]", "[^b]", "[a-c]",
		"[[:alpha:]]", "[[:punct:]", "[]a]", "\\", "\\*", " ", "\\ ", "#", "!", ".", "***", "[", "]", "-", "\t", "é", "[/]", "[+-/]",
	})
	line := strings.Join(rapid.SliceOfN(part, 1, 6).Draw(t, label), "")
	if rapid.IntRange(0, 3).Draw(t, "negate") == 0 {
		line = "!" + line
	}
	return line
}

func ignoreFile(t *rapid.T, label string) string {
	var b strings.Builder
	for range rapid.IntRange(0, 6).Draw(t, label+" lines") {
		b.WriteString(pattern(t, label))
		b.WriteString(rapid.SampledFrom([]string{"\n", "\n", "\n", "\r\n", "  \n", "/\n"}).Draw(t, "end"))
	}
	return b.String()
}

var treeNames = []string{"a", "b", "ab", "c.o", "A", "d", "a.o", "#", "!a", "é", "a b", "-", "[", "b*", "\\"}

// TestRandomTreesLikeGit compares whole trees, nested ignore files, tracked files and ignoreCase included.
func TestRandomTreesLikeGit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := newSandbox(t)
		s.git(rt, "init", "-q")
		fold := rapid.IntRange(0, 2).Draw(rt, "ignorecase") == 0
		s.git(rt, "config", "core.ignorecase", strconv.FormatBool(fold))
		name := rapid.SampledFrom(treeNames)
		made := map[string]bool{} // true for a directory
		for range rapid.IntRange(1, 40).Draw(rt, "files") {
			parts := rapid.SliceOfN(name, 1, 4).Draw(rt, "path")
			addPath(made, parts)
		}
		var files []string
		for p, isDir := range made {
			if !isDir {
				files = append(files, p)
				writeFile(rt, filepath.Join(s.root, p), "")
			}
		}
		slices.Sort(files)
		// With ignorecase git takes an untracked A for a tracked a, which only makes sense where they are one file.
		if len(files) > 0 && !fold && rapid.Bool().Draw(rt, "track") {
			tracked := rapid.SliceOfN(rapid.SampledFrom(files), 1, 5).Draw(rt, "tracked")
			s.git(rt, append([]string{"--literal-pathspecs", "add", "-f", "--"}, tracked...)...)
		}
		writeFile(rt, filepath.Join(s.root, ".gitignore"), ignoreFile(rt, "root"))
		writeFile(rt, filepath.Join(s.root, ".git/info/exclude"), ignoreFile(rt, "info"))
		writeFile(rt, filepath.Join(s.home, ".config/git/ignore"), ignoreFile(rt, "global"))
		var dirs []string
		for p, isDir := range made {
			if isDir {
				dirs = append(dirs, p)
			}
		}
		slices.Sort(dirs)
		for _, d := range dirs {
			if rapid.IntRange(0, 2).Draw(rt, "nested") == 0 {
				writeFile(rt, filepath.Join(s.root, d, ".gitignore"), ignoreFile(rt, d))
			}
		}
		s.sameAsGit(rt)
	})
}

// addPath records a file and the directories on the way, unless one of them is a file already.
func addPath(made map[string]bool, parts []string) {
	for i := 1; i < len(parts); i++ {
		dir := strings.Join(parts[:i], "/")
		if isDir, ok := made[dir]; ok && !isDir {
			return
		}
		made[dir] = true
	}
	p := strings.Join(parts, "/")
	if _, ok := made[p]; !ok {
		made[p] = false
	}
}

// TestRandomPatternsLikeGit gives each of many patterns a directory of its own, so that one run of git judges all.
func TestRandomPatternsLikeGit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := newSandbox(t)
		s.git(rt, "init", "-q")
		patterns := map[string]string{}
		for i := range 12 {
			dir := fmt.Sprintf("p%02d", i)
			p := pattern(rt, "pattern")
			if rapid.Bool().Draw(rt, "below all") {
				p = "*\n!*/\n!" + p
			}
			patterns[dir] = p
			writeFile(rt, filepath.Join(s.root, dir, ".gitignore"), p)
			for _, f := range []string{"a/b/ab", "a/c.o", "b", "ab", "c.o", "A/a", "aa/b", "d/a/b/c.o", "-", "a b", "a ", "#", "!a", "é", "*", "\\", "[", "]", "ba/.o"} {
				writeFile(rt, filepath.Join(s.root, dir, f), "")
			}
		}
		got, want := pathsOf(s.walk(rt, Options{})), s.seen(rt)
		for dir, p := range patterns {
			in := func(path string) bool { return !strings.HasPrefix(path, dir+"/") }
			g := slices.DeleteFunc(slices.Clone(got), in)
			w := slices.DeleteFunc(slices.Clone(want), in)
			if !slices.Equal(g, w) {
				rt.Fatalf("pattern %q:\n got %q\nwant %q", p, g, w)
			}
		}
	})
}

func TestHostilePatternIsQuick(t *testing.T) {
	t.Parallel()
	g, ok := compileGlob(strings.Repeat("**/*a*", 30)+"b", false)
	if !ok {
		t.Fatal("does not compile")
	}
	if g.match(strings.Repeat("a", 250)) {
		t.Error("matches")
	}
}
