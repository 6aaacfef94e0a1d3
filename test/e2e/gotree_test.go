package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// goTree is a copy of the tree of Go itself, the one large repository that is not
// ours and that every machine with Go has, under git, as a site's workspace.
type goTree struct {
	*site
	root     string              // where it was copied from
	packages map[string][]string // of the standard library: the files that are compiled here
}

// leastFiles is how many Go files make a large repository.
const leastFiles = 5000

// newGoTree copies the tree that `go env GOROOT` names.
func newGoTree(t *testing.T) *goTree {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT", "GOCACHE").Output()
	if err != nil {
		t.Skipf("there is no Go whose tree could be copied: %v", err)
	}
	root, cache, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	s := gitSite(t)
	s.env = append(s.env, "GOCACHE="+cache) // what is compiled in sandboxes is compiled with it
	g := &goTree{site: s, root: root}
	if err := os.CopyFS(filepath.Join(s.work, "src"), os.DirFS(filepath.Join(root, "src"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"VERSION", "go.env"} {
		if text, err := os.ReadFile(filepath.Join(root, name)); err == nil {
			s.write(name, string(text))
		}
	}
	for _, name := range []string{"pkg", "bin"} { // the tools, and headers of assembly
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(s.work, name)); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.count(); n < leastFiles {
		t.Skipf("%s has %d Go files, and not %d", root, n, leastFiles)
	}
	g.git("config", "gc.auto", "0") // it would go on after the test
	g.git("add", "-A")
	g.git("commit", "-qm", "Go as it was")
	g.list()
	return g
}

// count is how many Go files there are.
func (g *goTree) count() (n int) {
	g.t.Helper()
	err := filepath.WalkDir(filepath.Join(g.work, "src"), func(name string, d os.DirEntry, err error) error {
		if strings.HasSuffix(name, ".go") {
			n++
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

// goCommand runs the go command on the copy.
func (g *goTree) goCommand(args ...string) []byte {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(g.work, "src")
	cmd.Env = append(os.Environ(), "GOROOT="+g.work, "GOENV=off", "GOTOOLCHAIN=local", "GOPROXY=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0", "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("go %v: %v\n%s", args, err, clip(stderr.String()))
	}
	return out
}

// list asks which files of the library are compiled on this machine.
func (g *goTree) list() {
	g.t.Helper()
	g.packages = make(map[string][]string)
	for in := json.NewDecoder(strings.NewReader(string(g.goCommand("list", "-json=ImportPath,GoFiles", "std")))); ; {
		var p struct {
			ImportPath string
			GoFiles    []string
		}
		err := in.Decode(&p)
		if err == io.EOF {
			return
		}
		if err != nil {
			g.t.Fatal(err)
		}
		g.packages[p.ImportPath] = p.GoFiles
	}
}

// compiled says whether a path of the workspace is a file of a package that the
// test may change: not what everything else is built from, for that is compiled
// anew for every task, and not what is about security by its name, for which no rule
// approves.
func (g *goTree) compiled(name string) (pkg string, ok bool) {
	rest, below := strings.CutPrefix(name, "src/")
	pkg = path.Dir(rest)
	for _, base := range []string{"crypto", "internal", "runtime", "syscall", "vendor", "unsafe", "sync", "reflect", "os", "unicode", "sort", "io", "errors"} {
		if pkg == base || strings.HasPrefix(pkg, base+"/") {
			return "", false
		}
	}
	return pkg, below && slices.Contains(g.packages[pkg], path.Base(rest))
}

// A chosen gap is one that is to be closed.
type chosen struct{ id, path, pkg string }

// choose picks gaps that can be compiled here, so many at least: all those of some
// files, from as few packages as do. The template writes nothing that gofmt would
// lay out anew, and gives up where one-line functions are set in columns; files with
// such are left out.
func (g *goTree) choose(least int) (all []chosen) {
	g.t.Helper()
	byFile := make(map[string][]chosen)
	crowded := make(map[string]bool)
	for _, gap := range g.gaps("--rule", "docs.go.exported", "--limit", "0") {
		name := gap.GetPath()
		if pkg, ok := g.compiled(name); ok {
			byFile[name] = append(byFile[name], chosen{gap.GetId(), name, pkg})
			crowded[name] = crowded[name] || !g.standsAlone(name, int(gap.GetLine()))
		}
	}
	perPackage := make(map[string]int)
	for name, gaps := range byFile {
		if crowded[name] || len(gaps) > mostInFile {
			delete(byFile, name)
			continue
		}
		perPackage[gaps[0].pkg] += len(gaps)
	}
	files := slices.SortedFunc(maps.Keys(byFile), func(a, b string) int {
		x, y := byFile[a][0].pkg, byFile[b][0].pkg
		return cmp.Or(cmp.Compare(perPackage[y], perPackage[x]), strings.Compare(x, y), strings.Compare(a, b))
	})
	for _, name := range files {
		if all = append(all, byFile[name]...); len(all) >= least {
			return all
		}
	}
	g.t.Skipf("Go's library has %d gaps of the rule that could be closed here, and not %d", len(all), least)
	return nil
}

// mostInFile is how many gaps a chosen file has at most: each that is closed has the
// others merged and verified anew.
const mostInFile = 8

// standsAlone says whether the declaration in a line is no part of a block, and has
// blank lines, or a body of several, between it and others.
func (g *goTree) standsAlone(name string, line int) bool {
	g.t.Helper()
	lines := append(strings.Split(g.read(filepath.Join(g.work, name)), "\n"), "")
	if line < 2 || line >= len(lines) {
		return false
	}
	text := lines[line-1]
	return (strings.HasPrefix(text, "func ") || strings.HasPrefix(text, "type ")) && lines[line-2] == "" && (strings.HasSuffix(text, "{") || lines[line] == "")
}

// rule is the configuration that has the chosen gaps closed, each as a task of its
// own, by patches with which their packages compile. They are vetted once, at the end.
func (g *goTree) rule(gaps []chosen) string {
	var paths, packages []string
	for _, c := range gaps {
		paths, packages = append(paths, fmt.Sprintf("%q", c.path)), append(packages, c.pkg)
	}
	slices.Sort(paths)
	slices.Sort(packages)
	paths, packages = slices.Compact(paths), slices.Compact(packages)
	check := fmt.Sprintf("test -z \"$(gofmt -l %s)\" && go build -o /dev/null %[2]s", strings.Join(unquoted(paths), " "), strings.Join(packages, " "))
	conf := strings.Replace(g.config(), `workspace "main" {`, fmt.Sprintf(`tasks {
  open = 3 # each is made for files as they are, and merged where others were faster
}

sandbox_profile "verify" {
  read_only = [%q]
  cache "go-build" {}
  limits {
    disk   = "4GiB"
    memory = "4GiB"
  }
}

workspace "main" {
  verify "compiles" {
    command = ["sh", "-c", %q]
    dir     = "src"
    env = {
      GOROOT      = "/workspace"
      GOENV       = "off"
      GOTOOLCHAIN = "local"
      GOPROXY     = "off"
      GOFLAGS     = "-buildvcs=false"
      CGO_ENABLED = "0"
    }
  }
`, g.root, check), 1)
	return conf + fmt.Sprintf(`
plugin "sandbox" "scaffold" {
  command = "${path.plugins}/sandbox-scaffold"
}

plugin "backup" "files" {
  command = "${path.plugins}/backup-files"
}

rule "docs" {
  match {
    rule = "docs.go.exported"
    path = [%s]
  }
  group    = "none"
  sandbox  = "scaffold"
  verify   = ["compiles", "gap"]
  approval = "auto"
}
`, strings.Join(paths, ", "))
}

// unquoted are paths relative to src.
func unquoted(paths []string) (out []string) {
	for _, p := range paths {
		out = append(out, strings.TrimPrefix(strings.Trim(p, `"`), "src/"))
	}
	return out
}

// Fifty gaps of a large repository that is not ours go through the loop: every
// result compiles, every gap is confirmed gone, and the difference is comments in
// the files of these tasks, and nothing else.
func TestLoopOnTheTreeOfGo(t *testing.T) {
	if os.Getenv("SOP_TEST_LONG") == "" {
		t.Skip("to copy, scan and mend the tree of Go takes minutes: set SOP_TEST_LONG=1")
	}
	least := 50
	if text := os.Getenv("SOP_TEST_GAPS"); text != "" { // fewer, to look at the test itself
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		least = n
	}
	g := newGoTree(t)
	g.put(g.conf, g.config())
	g.lock()
	h := g.up()
	h.waitWithin(5*time.Minute, "the first scan is complete", func(st *apiv1.Status) bool { return lastScan(st).GetComplete() })
	gaps := g.choose(least)
	t.Logf("%d gaps in %d Go files", len(gaps), g.count())
	g.put(g.conf, g.rule(gaps))
	g.lock()
	g.must(0, "reload")

	began := time.Now()
	h.allDone(len(gaps), time.Duration(len(gaps))*time.Minute)
	t.Logf("%d tasks took %v", len(gaps), time.Since(began).Round(time.Second))
	packages := make(map[string]bool)
	files := make(map[string]bool)
	for _, c := range gaps {
		if now := g.gap(c.id); now.GetState() != "resolved" {
			t.Errorf("gap %s at %s is %s", c.id, c.path, now.GetState())
		}
		packages[c.pkg], files[c.path] = true, true
	}
	names := slices.Sorted(maps.Keys(packages))
	g.goCommand(append([]string{"build", "-o", os.DevNull}, names...)...)
	g.goCommand(append([]string{"vet"}, names...)...)
	g.onlyComments(files)
	h.must(0, "audit", "verify")
}

// allDone waits until there are so many tasks and each is done.
func (h *host) allDone(want int, atMost time.Duration) {
	h.t.Helper()
	states := make(map[string]int)
	if !eventually(atMost, func() bool {
		clear(states)
		for _, task := range h.tasks() {
			states[task.State]++
			if task.State == "dead" || task.State == "denied" {
				h.t.Fatalf("a task is %s: %+v", task.State, task)
			}
		}
		return states["done"] == want && len(states) == 1
	}) {
		h.t.Fatalf("the tasks are %v, want %d done", states, want)
	}
}

// onlyComments asserts that what differs from the last commit are lines of comments
// that were added to the files, to each of them, and to no other.
func (g *goTree) onlyComments(files map[string]bool) {
	g.t.Helper()
	changed := make(map[string]bool)
	for name := range strings.SplitSeq(strings.TrimSpace(g.git("diff", "--name-only")), "\n") {
		changed[name] = true
	}
	if !maps.Equal(changed, files) {
		g.t.Errorf("git says that %v differ, want %v", slices.Sorted(maps.Keys(changed)), slices.Sorted(maps.Keys(files)))
	}
	if untracked := g.git("status", "--porcelain", "--untracked-files=all"); strings.Contains(untracked, "??") || strings.Count(untracked, "\n") != len(files) {
		g.t.Errorf("git status says:\n%s", untracked)
	}
	added := 0
	for line := range strings.Lines(g.git("diff", "--unified=0", "--no-color")) {
		for _, head := range []string{"diff --git ", "index ", "--- a/", "+++ b/", "@@ "} {
			if strings.HasPrefix(line, head) {
				line = ""
			}
		}
		if line == "" {
			continue
		}
		if text, is := strings.CutPrefix(line, "+"); !is || !strings.HasPrefix(strings.TrimSpace(text), "//") {
			g.t.Errorf("a line that is no new comment: %q", line)
		}
		added++
	}
	g.t.Logf("%d lines of comments in %d files", added, len(files))
}
