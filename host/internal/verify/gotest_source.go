package verify

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A testSource is a file of tests of the workspace, without the patch.
type testSource struct {
	name  string // relative to the workspace
	text  []byte
	tests []testFunc
}

type testFunc struct {
	name string
	arg  string // what it calls its *testing.T
	body int    // offset behind the opening brace
}

// testDirs are the directories that have protected tests.
func (w *work) testDirs() map[string]bool {
	dirs := make(map[string]bool)
	for _, name := range w.protected {
		if strings.HasSuffix(name, "_test.go") {
			dirs[path.Dir(name)] = true
		}
	}
	return dirs
}

// here is what test programs are built for.
var here = func() build.Context {
	c := build.Default
	c.CgoEnabled = false
	return c
}()

// maxSource bounds a file that is read, in bytes.
const maxSource = 8 << 20

// testSources reads the tests of a directory. What cannot be read or parsed has
// none.
func (w *work) testSources(dir string) []testSource {
	root, err := os.OpenRoot(w.spec.Workspace)
	if err != nil {
		return nil
	}
	defer root.Close() //nolint:errcheck // only read from
	sub, err := root.Open(dir)
	if err != nil {
		return nil
	}
	defer sub.Close() //nolint:errcheck // likewise
	entries, err := sub.ReadDir(-1)
	if err != nil {
		return nil
	}
	var found []testSource
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		name := path.Join(dir, entry.Name())
		if built, err := here.MatchFile(sub.Name(), entry.Name()); err != nil || !built {
			continue
		}
		info, err := entry.Info()
		if err != nil || info.Size() > maxSource {
			continue
		}
		text, err := root.ReadFile(name)
		if err != nil {
			continue
		}
		found = append(found, testSource{name, text, testsIn(text)})
	}
	return found
}

func testsIn(text []byte) []testFunc {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "", text, parser.SkipObjectResolution)
	if err != nil {
		return nil
	}
	var tests []testFunc
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Body == nil || !isTestName(f.Name.Name) || len(f.Type.Params.List) != 1 {
			continue
		}
		one := testFunc{name: f.Name.Name, body: files.Position(f.Body.Lbrace).Offset + 1}
		if names := f.Type.Params.List[0].Names; len(names) == 1 && names[0].Name != "_" {
			one.arg = names[0].Name
		}
		tests = append(tests, one)
	}
	return tests
}

// isTestName is how the go command recognises a test.
func isTestName(name string) bool {
	rest, found := strings.CutPrefix(name, "Test")
	if !found || name == "TestMain" {
		return false
	}
	first, _ := utf8.DecodeRuneInString(rest)
	return rest == "" || !unicode.IsLower(first)
}
