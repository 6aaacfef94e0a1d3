package python

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// reference is what CPython's ast module says of a file.
type reference struct {
	Doc   [2]int
	Empty bool
	Defs  []struct {
		Kind       Kind
		Qualified  string
		Line, End  int
		Async      bool
		Nested     bool
		Doc        [2]int
		Body       Shape
		Complexity int
		Decorators []string
		Bases      []string
	}
}

// lines returns what is compared, one line for a fact.
func (r *reference) lines() []string {
	out := make([]string, 0, 1+len(r.Defs))
	out = append(out, fmt.Sprintf("module doc=%v empty=%v", r.Doc, r.Empty))
	for _, d := range r.Defs {
		out = append(out, fmt.Sprintf("%s %s %d-%d async=%v nested=%v doc=%v body=%d complexity=%d decorators=%q bases=%q",
			d.Kind, d.Qualified, d.Line, d.End, d.Async, d.Nested, d.Doc, d.Body, d.Complexity, d.Decorators, d.Bases))
	}
	return out
}

// linesOf returns the same of a File.
func linesOf(f *File) []string {
	out := make([]string, 0, 1+len(f.Defs))
	out = append(out, fmt.Sprintf("module doc=%v empty=%v", [2]int{f.Doc.Line, f.Doc.EndLine}, f.Empty))
	for _, d := range f.Defs {
		out = append(out, fmt.Sprintf("%s %s %d-%d async=%v nested=%v doc=%v body=%d complexity=%d decorators=%q bases=%q",
			d.Kind, d.Qualified, d.Line, d.EndLine, d.Async, d.Nested, [2]int{d.Doc.Line, d.Doc.EndLine}, d.Body, d.Complexity,
			orEmpty(d.Decorators), orEmpty(d.Bases)))
	}
	return out
}

func orEmpty(s []string) []string { return append([]string{}, s...) }

// interpreter returns a Python to compare with: SOP_PYTHON, or python3.
func interpreter(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath(cmp.Or(os.Getenv("SOP_PYTHON"), "python3"))
	if err != nil {
		t.Skipf("no CPython to compare with: %v", err)
	}
	return path
}

// corpus returns the paths of the interpreter's standard library, or of the
// tree that SOP_PYTHON_CORPUS names.
func corpus(t testing.TB) []string {
	t.Helper()
	root := os.Getenv("SOP_PYTHON_CORPUS")
	if root == "" {
		out, err := exec.Command(interpreter(t), "-c", "import sysconfig; print(sysconfig.get_paths()['stdlib'])").Output()
		if err != nil {
			t.Skipf("where the standard library is: %v", err)
		}
		root = strings.TrimSpace(string(out))
	}
	var paths []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "site-packages" && path != root {
			return fs.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, ".py") {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// asts runs CPython over paths and calls fn with each answer, nil where CPython
// finds an error.
func asts(t *testing.T, paths []string, fn func(path string, ref *reference)) {
	t.Helper()
	cmd := exec.Command(interpreter(t), "testdata/definitions.py")
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\n"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(stdout)
	for _, path := range paths {
		line, err := in.ReadBytes('\n')
		if err != nil {
			t.Fatalf("%s: %v\n%s", path, err, stderr.String())
		}
		var ref *reference
		if err := json.Unmarshal(line, &ref); err != nil {
			t.Fatal(err)
		}
		fn(path, ref)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// tally counts how two readings of a corpus compare.
type tally struct {
	files, differ, doubts, defs, wrong int
}

func (y *tally) compare(t *testing.T, path string, got, want []string) {
	t.Helper()
	y.files++
	y.defs += len(want)
	if slices.Equal(got, want) {
		return
	}
	y.differ++
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			if y.wrong++; y.wrong < 40 {
				t.Logf("%s\n got %s\nwant %s", path, g, w)
			}
			if len(got) != len(want) {
				return
			}
		}
	}
}

// long says whether whole corpora are read.
func long() bool { return os.Getenv("SOP_TEST_LONG") != "" }

// part returns one path in n, or all in a long test.
func part(paths []string, n int) []string {
	if long() {
		return paths
	}
	var out []string
	for i := 0; i < len(paths); i += n {
		out = append(out, paths[i])
	}
	return out
}

// TestOutlineAgreesWithCPython compares the outline with CPython's ast over the
// standard library.
func TestOutlineAgreesWithCPython(t *testing.T) {
	var y tally
	broken, accepted := 0, 0
	asts(t, part(corpus(t), 8), func(path string, ref *reference) {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := outline(src)
		switch {
		case ref == nil:
			if broken++; err == nil {
				accepted++
				t.Logf("outline accepts %s, which CPython does not", path)
			}
		case errors.Is(err, errDoubt):
			y.doubts++
			t.Logf("outline leaves %s to the grammar", path)
		case err != nil:
			y.differ++
			t.Errorf("%s: %v", path, err)
		default:
			y.compare(t, path, linesOf(f), ref.lines())
		}
	})
	t.Logf("%d files, %d facts: %d files differ in %d; %d left to the grammar; of %d broken ones %d accepted",
		y.files, y.defs, y.differ, y.wrong, y.doubts, broken, accepted)
	if y.differ > 0 || y.doubts > y.files/100 {
		t.Error("the outline does not agree")
	}
}

// TestParseAgreesWithOutline compares the two ways of reading over the standard
// library. The grammar itself misplaces some definitions without a word, one in
// a thousand, which is why the outline comes first.
func TestParseAgreesWithOutline(t *testing.T) {
	var y tally
	failed, slow := 0, 0
	paths := part(corpus(t), 60)
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := outline(src)
		if err != nil || !long() && len(src) > 100<<10 {
			continue
		}
		got, err := parse(context.Background(), src)
		if err != nil {
			t.Logf("%s: %v", path, err)
			switch {
			case errors.Is(err, context.Canceled):
				t.Fatal(err)
			case errors.Is(err, ErrBudget): // which a busy machine takes to less
				slow++
			default:
				failed++
			}
			continue
		}
		y.compare(t, path, linesOf(got), linesOf(want))
		if !slices.Equal(got.Comments, want.Comments) {
			t.Logf("%s: comments differ: %d by the grammar, %d by the tokens", path, len(got.Comments), len(want.Comments))
		}
	}
	t.Logf("%d files, %d facts: %d files differ in %d; the grammar fails on %d and gives %d up", y.files, y.defs, y.differ, y.wrong, failed, slow)
	if y.wrong > y.defs/1000 || failed > 1+y.files/200 || slow > y.files {
		t.Error("the grammar does not agree")
	}
}
