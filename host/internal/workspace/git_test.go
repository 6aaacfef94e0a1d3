package workspace

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tb is what the helpers need of testing.T, testing.B and rapid.T.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sandbox is a work tree and a home that nothing of the machine leaks into.
type sandbox struct {
	root, home string
	global     string // GIT_CONFIG_GLOBAL, unless it is empty
}

func newSandbox(t testing.TB) sandbox {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := sandbox{root: filepath.Join(dir, "root"), home: filepath.Join(dir, "home")}
	for _, d := range []string{s.root, s.home} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s sandbox) git(t tb, args ...string) string {
	t.Helper()
	return s.gitIn(t, s.root, args...)
}

func (s sandbox) gitIn(t tb, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.home, "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
		"GIT_CEILING_DIRECTORIES=" + filepath.Dir(s.root), "GIT_ADVICE=0",
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@t", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@t",
	}
	if s.global != "" {
		cmd.Env = append(cmd.Env, "GIT_CONFIG_GLOBAL="+s.global)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// seen is what git lists and this package should: regular files on disk, outside nested repositories.
func (s sandbox) seen(t tb) []string {
	t.Helper()
	return s.seenIn(t, s.root)
}

func (s sandbox) seenIn(t tb, dir string) []string {
	t.Helper()
	var paths []string
	for p := range strings.SplitSeq(s.gitIn(t, dir, "ls-files", "-z", "-co", "--exclude-standard"), "\x00") {
		if info, err := os.Lstat(filepath.Join(dir, p)); p != "" && err == nil && info.Mode().IsRegular() {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// write makes files; a path that ends in a slash is a directory.
func (s sandbox) write(t tb, files map[string]string) {
	t.Helper()
	for path, data := range files {
		writeFile(t, filepath.Join(s.root, path)+strings.Repeat("/", strings.Count(path[len(path)-1:], "/")), data)
	}
}

func writeFile(t tb, path, data string) {
	t.Helper()
	dir := filepath.Dir(path)
	if strings.HasSuffix(path, "/") {
		dir = path
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	if dir != path {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatalf("%v", err)
		}
	}
}

func (s sandbox) walk(t tb, opt Options) *Manifest {
	t.Helper()
	opt.Home, opt.GlobalConfig = s.home, s.global
	m, err := Walk(bg, s.root, opt)
	if err != nil {
		t.Fatalf("Walk: %v", err)
	}
	return m
}

func pathsOf(m *Manifest) []string {
	paths := make([]string, 0, len(m.Files))
	for _, f := range m.Files {
		paths = append(paths, f.Path)
	}
	return paths
}

// sameAsGit compares a walk with git.
func (s sandbox) sameAsGit(t tb) *Manifest {
	t.Helper()
	m := s.walk(t, Options{})
	wantPaths(t, pathsOf(m), s.seen(t))
	return m
}

func wantPaths(t tb, got, want []string) {
	t.Helper()
	var extra, missing []string
	for _, p := range got {
		if !slices.Contains(want, p) {
			extra = append(extra, p)
		}
	}
	for _, p := range want {
		if !slices.Contains(got, p) {
			missing = append(missing, p)
		}
	}
	if len(extra)+len(missing) > 0 {
		t.Fatalf("listed but not expected: %q\nexpected but not listed: %q", extra, missing)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("order: got %q, want %q", got, want)
	}
}
