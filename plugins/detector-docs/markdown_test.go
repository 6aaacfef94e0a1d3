package main

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestSlug(t *testing.T) {
	for text, want := range map[string]string{
		"Hello World": "hello-world", "What's new?": "whats-new", "a  b": "a--b", "C++ & Go": "c--go", "snake_case": "snake_case",
		"Über Straße": "über-straße", "日本語 見出し": "日本語-見出し", "v1.2.3 (2020-01-02)": "v123-2020-01-02", "🚀 Go": "-go", "": "",
	} {
		if got := slug(text); got != want {
			t.Errorf("slug(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestHeadingsAreNumberedPastEachOther(t *testing.T) {
	m := newAnchorMaker()
	for _, h := range []string{"a", "a-1", "a", "A"} {
		m.heading(h)
	}
	made := m.anchors()
	for _, want := range []string{"a", "a-1", "a-2", "a-3"} {
		if !made.has(want, false) {
			t.Errorf("no anchor %s", want)
		}
	}
	if made.has("a-4", false) || made.has("a1", false) || !made.has("a1", true) {
		t.Error("anchors are not exact")
	}
}

func TestLinesOfLinks(t *testing.T) {
	content := "---\nt: x\n---\n# H\n\n[a](a)\n![b](b)\ntext\n[c](c) and\n<a\n href=\"d\">\n\n<div>\n\t<img src=\"e\">\n</div>\n\n- x\n  - [f](f)\n\n| t |\n|---|\n| [g](g) |\n\n[h]\n\n[h]: h\n"
	got := make(map[string]int32)
	for _, l := range parseDocument([]byte(content)).links {
		got[l.target] = l.line
	}
	for target, want := range map[string]int32{"a": 6, "b": 7, "c": 9, "d": 10, "e": 14, "f": 18, "g": 22, "h": 24} {
		if got[target] != want {
			t.Errorf("%s is in line %d, want %d", target, got[target], want)
		}
	}
}

func TestFrontMatter(t *testing.T) {
	for content, want := range map[string]int{
		"---\na: b\n---\nx": 13, "+++\na = 1\n+++\n": 14, "---\n\ntext\n\n---\n": 0, "---\nnever closed\n": 0, "x\n---\n": 0, "": 0,
		"----\na\n----\n": 0, "---\r\na: b\r\n---\r\n": 16,
	} {
		if got := frontMatter([]byte(content)); got != want {
			t.Errorf("frontMatter(%q) = %d, want %d", content, got, want)
		}
	}
	got := routesIn([]byte("---\nslug: /a/First\nx: no\naliases:\n  - /old/second/\n  - third.html\ntags:\n  - no\naliases = [\"/f/fourth\", 'fifth']\n---\n"))
	if want := []string{"first", "second", "third", "fourth", "fifth"}; !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
}

func TestTags(t *testing.T) {
	for content, want := range map[string]string{
		`<a href=x>`: "a x", `<A HREF="x&amp;y">`: "a x&y", `<a title=">" href='x'/>`: "a x", `<!-- <a href=x> --><a href=y>`: "a y",
		`<a href`: "", `a < b`: "", `<a href="x`: "", `<script>"<a href=x>"</script>`: "script ", `<x-y:z href = x >`: "x-y:z x",
		"<a\n\thref=x\n>": "a x", "<a href=x href=y>": "a x", "</a>": "", "<1>": "",
	} {
		var got []string
		tags([]byte(content), func(t tag) { got = append(got, t.name+" "+t.attrs["href"]) })
		if strings.Join(got, ",") != want {
			t.Errorf("tags(%q) = %q, want %q", content, got, want)
		}
	}
}

func TestSaysNothing(t *testing.T) {
	for content, want := range map[string]bool{
		"": true, " \n\t\n": true, "# T\n\n## U": true, "T\n===\n": true, "= T\n": true, "<!-- x\n\ny -->\n": true,
		"# T\ntext": false, "text": false, "![x](y)": false, "<!-- open": false, "T\n===\ntext\n": false,
	} {
		if got := saysNothing([]byte(content)); got != want {
			t.Errorf("saysNothing(%q) = %v, want %v", content, got, want)
		}
	}
}

func FuzzDocument(f *testing.F) {
	for _, seed := range []string{
		"[a](b#c) ![d](e)\n\n<a href=x>\n\n<img src='y'\n", "---\nslug: x\n---\n# H {#i}\n[r]\n\n[r]: <a b>", "| a |\n|--|\n| [x](%zz) |", "[^1]\n\n[^1]: x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		lines := int32(strings.Count(content, "\n") + 1)
		for _, l := range parseDocument([]byte(content)).links {
			if l.line < 1 || l.line > lines {
				t.Errorf("link %q is in line %d of %d", l.dest, l.line, lines)
			}
		}
	})
}

func FuzzLocate(f *testing.F) {
	f.Add("a/b.md", "../../x", "docs")
	f.Add("b.md", "/%2e%2e/x/", ".")
	f.Add("de/b.md", "\x00//..", "en")
	dir := f.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = root.Close() })
	f.Fuzz(func(t *testing.T, from, target, siteRoot string) {
		from, siteRoot = path.Join(from), path.Clean(siteRoot)
		if to, inside := locate(from, target); inside && !strings.HasPrefix(from, "..") && strings.HasPrefix(to, "../") {
			t.Errorf("%q leads to %q, outside", target, to)
		}
		s := make(sites)
		s.add(siteRoot, byFile)
		s[siteRoot].candidates(from, target, func(name string) bool {
			_, err := root.Lstat(name)
			return err == nil && name == "impossible"
		})
		s.of(from)
		s[siteRoot].knows(target)
	})
}
