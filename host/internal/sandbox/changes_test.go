package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// tree writes a small workspace.
func workspace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"a.txt": "a\n", "b.txt": "b\n", "d/c.txt": "c\n", "d/e/f.txt": "f\n", "keep/k.txt": "k\n", ".git/config": "[core]\n", "script.sh": "echo\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.txt", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func changes(t *testing.T, out *Outcome) *ChangeSet {
	t.Helper()
	set, err := out.Changes(DefaultChangeLimits)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// brief is a change set as "op path", and what is wrong with it.
func brief(set *ChangeSet) (lines []string) {
	for _, c := range set.Changes {
		lines = append(lines, string(c.Op)+" "+c.Path)
	}
	for _, r := range set.Rejected {
		lines = append(lines, "rejected "+r.Path)
	}
	return lines
}

func TestChanges(t *testing.T) {
	for _, test := range []struct {
		name, script string
		want         []string
	}{
		{"nothing", "cat a.txt; ls d", nil},
		{"copied up and left as it was", "touch a.txt; echo x >> b.txt; echo b > b.txt; chmod 600 d/c.txt; chmod 644 d/c.txt", nil},
		{"made and removed", "echo x > x; rm x; mkdir y; rmdir y", nil},
		{"add, modify, delete", "echo x > x; echo more >> a.txt; rm b.txt", []string{"delete b.txt", "modify a.txt", "add x"}},
		{"mode", "chmod 755 script.sh", []string{"chmod script.sh"}},
		{"mode of a directory", "chmod 700 keep", []string{"chmod keep"}},
		{"a directory goes", "rm -r d", []string{"delete d/e/f.txt", "delete d/e", "delete d/c.txt", "delete d"}},
		{"a directory is replaced", "rm -r d; mkdir d; echo c > d/c.txt; mkdir d/e; echo n > d/e/n", []string{"delete d/e/f.txt", "add d/e/n"}},
		{"a file becomes a directory", "rm a.txt; mkdir a.txt; echo i > a.txt/i", []string{"delete a.txt", "mkdir a.txt", "add a.txt/i"}},
		{"a directory becomes a file", "rm -r d; echo d > d", []string{"delete d/e/f.txt", "delete d/e", "delete d/c.txt", "delete d", "add d"}},
		{"a directory is renamed", "mv d n", []string{"delete d/e/f.txt", "delete d/e", "delete d/c.txt", "delete d", "mkdir n", "mkdir n/e", "add n/c.txt", "add n/e/f.txt"}},
		{"links within", "ln -s ../a.txt d/l; ln -sfn b.txt link", []string{"symlink d/l", "symlink link"}},
		{"a hard link is a file", "ln a.txt h", []string{"add h"}},
		{"closed to its own user", "echo s > s; chmod 000 s; mkdir z; echo s > z/s; chmod 000 z", []string{"mkdir z", "add s", "add z/s"}},

		{"absolute link", "ln -s /etc/passwd p", []string{"symlink p", "rejected p"}},
		{"relative link outside", "ln -s ../x p; ln -s d/../../x q", []string{"symlink p", "symlink q", "rejected p", "rejected q"}},
		{"link by way of another", "ln -s . self; ln -s self/../../x far", []string{"symlink far", "symlink self", "rejected far"}},
		{"links in circles", "ln -s l2 l1; ln -s l1 l2", []string{"symlink l1", "symlink l2", "rejected l1", "rejected l2"}},
		{"fifo and socket", "mkfifo f", []string{"rejected f"}},
		{"git", "echo x >> .git/config; mkdir -p n/.GIT; echo h > n/.GIT/hook", []string{"mkdir n", "rejected .git/config", "rejected n/.GIT", "rejected n/.GIT/hook"}},
		{"git by other names", `echo > '.git '; echo > .git.; echo > GIT~1; echo > .Git:x`, []string{"rejected .Git:x", "rejected .git ", "rejected .git.", "rejected GIT~1"}},
		{"the host's own", "mkdir .SOP-integration; echo > .SOP-integration/x", []string{"rejected .SOP-integration", "rejected .SOP-integration/x"}},
		{"git is deleted", "rm -r .git", []string{"rejected .git/config", "rejected .git"}},
		{
			"odd names", `touch "$(printf 'a\nb')" "$(printf 'a\377b')" "$(printf 'a\342\200\256b')" "$(printf 'a\342\200\213b')" 'a\b'`,
			[]string{"rejected a\nb", "rejected a\\b", "rejected a\u200bb", "rejected a\u202eb", "rejected a\xffb"},
		},
		{"case clash with what is there", "echo > A.TXT", []string{"add A.TXT", "rejected A.TXT"}},
		{"case clash of two", "echo > x; echo > X", []string{"add X", "add x", "rejected x"}},
		{"another case instead", "mv a.txt A.TXT", []string{"delete a.txt", "add A.TXT"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := brief(changes(t, shell(t, workspace(t), test.script)))
			if diff := cmp.Diff(sortedRejections(test.want), sortedRejections(got)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// What somebody submits is held to what runs are held to.
func TestJudge(t *testing.T) {
	dir := workspace(t)
	for name, target := range map[string]string{"d/up": "..", "d/B.txt": "c.txt", "d/b.txt": "c.txt"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	link := func(name, target string) Change { return Change{Path: name, Op: OpSymlink, Target: target} }
	add := func(names ...string) (all []Change) {
		for _, name := range names {
			all = append(all, Change{Path: name, Op: OpAdd})
		}
		return all
	}
	for name, test := range map[string]struct {
		changes  []Change
		rejected []string
	}{
		"in order":                   {changes: []Change{{Path: "n/x", Op: OpAdd}, {Path: "n", Op: OpMkdir}, {Path: "a.txt", Op: OpDelete}}},
		"another case instead":       {changes: []Change{{Path: "A.TXT", Op: OpAdd}, {Path: "a.txt", Op: OpDelete}}},
		"another type":               {changes: []Change{{Path: "a.txt", Op: OpDelete}, link("a.txt", "b.txt")}},
		"clashes that were there":    {changes: []Change{{Path: "d/b.txt", Op: OpModify}, {Path: "d/n", Op: OpAdd}}},
		"links within":               {changes: []Change{link("d/e/l", "../../a.txt"), link("d/e/m", "../up/d")}},
		"by way of one that goes":    {changes: []Change{{Path: "d/up", Op: OpDelete}, link("d/l", "up/../c.txt")}},
		"by way of a link":           {[]Change{link("d/l", "up/../x")}, []string{"d/l"}},
		"by way of one of the same":  {[]Change{link("s", "."), link("d/l", "../s/../x")}, []string{"d/l"}},
		"by way of one that changes": {[]Change{link("link", "d"), link("l", "link/up/../x")}, []string{"l"}},
		"absolute":                   {[]Change{link("l", "/etc/passwd")}, []string{"l"}},
		"relative":                   {[]Change{link("l", "../x")}, []string{"l"}},
		"git":                        {add(".git/hooks/x", "d/GIT~1/hooks", ".git./config", "s/.Git :x"), []string{".git./config", ".git/hooks/x", "d/GIT~1/hooks", "s/.Git :x"}},
		"the host's":                 {add(".sop-integration/x"), []string{".sop-integration/x"}},
		"names":                      {add(`a\b`, "a\u202eb"), []string{`a\b`, "a\u202eb"}},
		"case of a file":             {add("A.txt"), []string{"A.txt"}},
		"case of a directory":        {append(add("D/x"), Change{Path: "D", Op: OpMkdir}), []string{"D"}},
		"case of two":                {add("d/x", "d/X"), []string{"d/x"}},
		"a file and a directory":     {append(add("x", "x/y"), Change{Path: "x", Op: OpMkdir}), []string{"x"}},
	} {
		t.Run(name, func(t *testing.T) {
			set := &ChangeSet{Changes: test.changes}
			if err := set.Judge(root); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range set.Rejected {
				got = append(got, r.Path)
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.rejected, got); diff != "" {
				t.Errorf("%v: -want +got\n%s", set.Rejected, diff)
			}
			if !slices.IsSortedFunc(set.Changes, func(a, b Change) int { return rank(a.Op) - rank(b.Op) }) {
				t.Errorf("order: %v", brief(set))
			}
		})
	}
}

// sortedRejections puts rejections in order: links are looked at in none.
func sortedRejections(lines []string) []string {
	var out, rejected []string
	for _, line := range lines {
		if strings.HasPrefix(line, "rejected") {
			rejected = append(rejected, line)
		} else {
			out = append(out, line)
		}
	}
	return append(out, slices.Sorted(slices.Values(rejected))...)
}

func TestChangeLimits(t *testing.T) {
	out := shell(t, workspace(t), "echo 1 > n1; echo 2 > n2; echo 3 > n3; mkdir -p x/y/z/w; echo > x/y/z/w/deep")
	for _, test := range []struct {
		limits ChangeLimits
		why    string
	}{
		{ChangeLimits{Count: 2, Bytes: 1 << 20, Depth: 9}, "more than 2 changes"},
		{ChangeLimits{Count: 99, Bytes: 3, Depth: 9}, "over 3 bytes"},
		{ChangeLimits{Count: 99, Bytes: 1 << 20, Depth: 3}, "deeper than 3"},
	} {
		set, err := out.Changes(test.limits)
		if err != nil {
			t.Fatal(err)
		}
		if len(set.Rejected) != 1 || !strings.Contains(set.Rejected[0].Why, test.why) {
			t.Errorf("%+v: rejected %v, want %q", test.limits, set.Rejected, test.why)
		}
	}
}

func TestFlags(t *testing.T) {
	for name, want := range map[string]string{
		"main.go": "", "docs/x.md": "", "agents.md": "agent configuration", "sub/CLAUDE.md": "agent configuration", ".github/workflows/a.yml": "continuous integration",
		".VSCode/settings.json": "editor configuration", "x/.gitattributes": "git configuration", ".gitmodules": "git configuration", "p.code-workspace": "editor configuration",
		".envrc": "shell environment", "sub/.husky/pre-commit": "git configuration",
	} {
		if got := flagOf(name); got != want {
			t.Errorf("flagOf(%q) = %q, want %q", name, got, want)
		}
	}
}

// A link that is said to stay inside does so when the kernel follows it.
func TestStaysInside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "links")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		root := filepath.Join(dir, "root")
		for _, sub := range []string{"a/b", "c"} {
			if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		part := rapid.SampledFrom([]string{"..", "..", ".", "a", "b", "c", "l0", "l1", "l2"})
		links := make(map[string]string)
		for _, place := range []string{"l0", "a/l1", "a/b/l2", "l1"} {
			links[place] = strings.Join(rapid.SliceOfN(part, 1, 5).Draw(t, place), "/")
			if err := os.Symlink(links[place], filepath.Join(root, place)); err != nil {
				t.Fatal(err)
			}
		}
		readlink := func(name string) (string, bool) {
			target, isLink := links[name]
			return target, isLink
		}
		opened, err := os.OpenRoot(root)
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		for place, target := range links {
			if !staysInside(place, target, readlink) {
				continue
			}
			resolved, err := filepath.EvalSymlinks(filepath.Join(root, place))
			if err != nil {
				continue // it leads nowhere
			}
			if resolved != root && !strings.HasPrefix(resolved, root+"/") {
				t.Fatalf("%s → %s leads to %s; links %v", place, target, resolved, links)
			}
		}
	})
}

func TestApply(t *testing.T) {
	dir := workspace(t)
	out := shell(t, dir, "echo x > x; echo more >> a.txt; rm b.txt; rm -r d; mkdir d; echo new > d/new; chmod 755 script.sh; ln -sfn x link; mkdir -p p/q; echo r > p/q/r")
	set := changes(t, out)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := Apply(root, set, out.Content); err != nil {
		t.Fatal(err)
	}
	after := shell(t, dir, "cat x a.txt d/new p/q/r; readlink link; stat -c %a script.sh; ls -A . d")
	want := "x\na\nmore\nnew\nr\nx\n755\n.:\n.git\na.txt\nd\nkeep\nlink\np\nscript.sh\nx\n\nd:\nnew\n"
	if after.Stdout.Text != want {
		t.Errorf("afterwards:\n%s\nwant:\n%s", after.Stdout.Text, want)
	}
	if err := Apply(root, set, out.Content); !errors.Is(err, ErrConflict) {
		t.Errorf("a second time: %v, want a conflict", err)
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, test := range []struct {
		name, script string
		meanwhile    func(dir string) error
	}{
		{"a file that was edited", "echo more >> a.txt", func(dir string) error { return os.WriteFile(dir+"/a.txt", []byte("other\n"), 0o644) }},
		{"a deleted file that was edited", "rm a.txt", func(dir string) error { return os.WriteFile(dir+"/a.txt", []byte("other\n"), 0o644) }},
		{"a file that is gone", "echo more >> a.txt", func(dir string) error { return os.Remove(dir + "/a.txt") }},
		{"a file where there was none", "echo x > x", func(dir string) error { return os.WriteFile(dir+"/x", nil, 0o644) }},
		{"a directory that became a link out", "echo n > d/n", func(dir string) error {
			return errors.Join(os.RemoveAll(dir+"/d"), os.Symlink(os.TempDir(), dir+"/d"))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := workspace(t)
			out := shell(t, dir, test.script)
			set := changes(t, out)
			if err := test.meanwhile(dir); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := Apply(root, set, out.Content); err == nil {
				t.Error("it was applied")
			}
		})
	}
}

func TestWritesStayInside(t *testing.T) {
	dir := workspace(t)
	mark := filepath.Base(filepath.Dir(dir))
	before := fingerprint(t, dir)
	shell(t, dir, "echo x > /tmp/"+mark+"; echo x > ~/"+mark+"; echo x > /dev/shm/"+mark+"; rm -rf /workspace/*; echo x > "+mark+"; chmod 700 .")
	for _, path := range []string{"/tmp/" + mark, "/dev/shm/" + mark, filepath.Join(os.Getenv("HOME"), mark)} {
		if _, err := os.Lstat(path); err == nil && !strings.HasPrefix(dir, path) {
			t.Errorf("%s was written", path)
		}
	}
	if after := fingerprint(t, dir); after != before {
		t.Errorf("the workspace has changed:\n%s\nwas:\n%s", after, before)
	}
}

// fingerprint is a tree with modes, times and contents.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		b.WriteString(path + " " + info.Mode().String() + " " + info.ModTime().String())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.Write(data)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
