package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestParseConfigLikeGit takes the meaning of each file from git config --list.
func TestParseConfigLikeGit(t *testing.T) {
	t.Parallel()
	files := []string{
		"[core]\n\texcludesFile = ~/x\n",
		"[CORE] ExcludesFile=a b  \t \n",
		"[core]\nexcludesfile = \" a \" b # c\n",
		"[core]\nexcludesfile = a\\\n  b\\\nc ; no\n\tignorecase\n",
		"[core]\nexcludesfile = \"a # \\\" ; b\\\\\\t\\n\" # x\n",
		"# c\n; c\n[a]\nb=\n[a \"Sub X\\\"y\"]\nC=1\n[a.Dotted]\nd = 2\n",
		"[a]b=1\n[c]d=2",
		"\ufeff[a]\nb = crlf\r\n[c]\r\nd = \"q\"\r\n",
		"[a]\nb = é ü\nc-d = x\ne1 = \"\"\"y\"z\n",
		"[a]\nb = x \\\n # not a comment yet\n",
		"[a] # comment\nb\n",
	}
	s := newSandbox(t)
	for i, text := range files {
		file := filepath.Join(s.home, "config")
		writeFile(t, file, text)
		var got strings.Builder
		err := parseConfig([]byte(text), func(section, key, value string) {
			got.WriteString(section + "." + key + "\n" + value + "\x00")
		})
		if err != nil {
			t.Errorf("file %d: %v", i, err)
		}
		want := s.git(t, "config", "-f", file, "--list", "-z")
		// git tells "key" from "key = true".
		want = strings.NewReplacer("core.ignorecase\x00", "core.ignorecase\ntrue\x00", "a.b\x00", "a.b\ntrue\x00").Replace(want)
		if got.String() != want {
			t.Errorf("file %d %q:\n got %q\nwant %q", i, text, got.String(), want)
		}
	}
	for _, text := range []string{"[a", "[a\nb=1", "x\n= 1", "[a]\nb = \"x\n", "[a]\nb = \\q\n", "[a]\nb c\n", "[a \"x]\n", "[a]\n=1", "[a]\nb ; c\n"} {
		if err := parseConfig([]byte(text), func(string, string, string) {}); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("[a \"b\"]\nc = \"d\\\n\" # e"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = parseConfig(data, func(string, string, string) {}) // must not hang or panic
	})
}

// TestGlobalExcludesLikeGit has git decide which excludes file is in force.
func TestGlobalExcludesLikeGit(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		home   map[string]string
		global string   // GIT_CONFIG_GLOBAL, beneath home unless absolute
		local  []string // value of core.excludesFile in the repository
		hides  string
	}{
		{name: "none"},
		{name: "default", home: map[string]string{".config/git/ignore": "a"}, hides: "a"},
		{name: "gitconfig", home: map[string]string{".gitconfig": "[core]\nexcludesFile = ~/my\n", "my": "b", ".config/git/ignore": "a"}, hides: "b"},
		{name: "xdg config", home: map[string]string{".config/git/config": "[core]\nexcludesFile = ~/my\n", "my": "b"}, hides: "b"},
		{name: "gitconfig after xdg", home: map[string]string{".config/git/config": "[core]\nexcludesFile = ~/a\n", ".gitconfig": "[core]\nexcludesfile=~/b", "a": "a", "b": "b"}, hides: "b"},
		{name: "included", home: map[string]string{".gitconfig": "[include]\npath = inc/x\n", "inc/x": "[core]\nexcludesfile=~/b", "b": "b"}, hides: "b"},
		{name: "empty", home: map[string]string{".gitconfig": "[core]\nexcludesfile=", ".config/git/ignore": "a"}},
		{name: "missing", home: map[string]string{".gitconfig": "[core]\nexcludesfile=~/no", ".config/git/ignore": "a"}},
		{name: "null device", home: map[string]string{".gitconfig": "[core]\nexcludesfile=/dev/null", ".config/git/ignore": "a"}},
		{name: "local and relative", home: map[string]string{".config/git/ignore": "a"}, local: []string{"c"}, hides: "b"},
		{name: "another gitconfig", home: map[string]string{".gitconfig": "[core]\nexcludesFile = ~/a\n", ".config/git/config": "[core]\nexcludesFile = ~/a\n", "mine": "[core]\nexcludesFile = ~/b\n", "a": "a", "b": "b"}, global: "mine", hides: "b"},
		{name: "another gitconfig that says nothing", home: map[string]string{".gitconfig": "[core]\nexcludesFile = ~/b\n", "b": "b", ".config/git/ignore": "a"}, global: "missing", hides: "a"},
		{name: "no gitconfig", home: map[string]string{".gitconfig": "[core]\nexcludesFile = ~/b\n", "b": "b", ".config/git/ignore": "a"}, global: os.DevNull, hides: "a"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			if s.global = c.global; s.global != "" {
				s.global = resolve(s.home, s.global)
			}
			s.git(t, "init", "-q")
			s.write(t, map[string]string{"a": "", "b": "", "c": "b"})
			for p, data := range c.home {
				writeFile(t, filepath.Join(s.home, p), data)
			}
			for _, v := range c.local {
				s.git(t, "config", "core.excludesFile", v)
			}
			m := s.sameAsGit(t)
			for _, p := range []string{"a", "b"} {
				if m.Has(p) == (p == c.hides) {
					t.Errorf("%s: listed %v", p, m.Has(p))
				}
			}
		})
	}
}

func TestBrokenGitConfigIsReported(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.git(t, "init", "-q")
	s.write(t, map[string]string{"a": ""})
	writeFile(t, filepath.Join(s.home, ".gitconfig"), "[include]\npath=.gitconfig\n[core")
	m := s.walk(t, Options{})
	if len(m.Diagnostics) == 0 || m.Diagnostics[0].Code != CodeGit || !m.Has("a") {
		t.Errorf("%v, %q", m.Diagnostics, pathsOf(m))
	}
}
