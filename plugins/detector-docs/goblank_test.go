package main

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// outline is what documentation depends on in a parsed file.
func outline(src *goSource) []string {
	lines := []string{fmt.Sprint("package ", src.file.Name.Name, src.line(src.file.Package), src.file.Doc.Text())}
	for _, decl := range src.file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			lines = append(lines, fmt.Sprint("func ", d.Name.Name, src.line(d.Pos()), d.Recv != nil, d.Doc.Text()))
			if d.Recv != nil && len(d.Recv.List) > 0 {
				lines = append(lines, "recv "+receiver(d))
			}
			lines = append(lines, fmt.Sprint(typeNames(d.Type.Params), typeNames(d.Type.Results)))
		case *ast.GenDecl:
			lines = append(lines, fmt.Sprint(d.Tok, src.line(d.Pos()), d.Lparen.IsValid(), d.Doc.Text()))
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					lines = append(lines, fmt.Sprint("type ", s.Name.Name, src.line(s.Pos()), s.Doc.Text()))
				case *ast.ValueSpec:
					lines = append(lines, fmt.Sprint("value ", s.Names, src.line(s.Pos()), s.Doc.Text()))
				}
			}
		}
	}
	return lines
}

// goFiles lists Go files beneath dir, every step-th.
func goFiles(t testing.TB, dir string, step int) []string {
	t.Helper()
	var files []string
	n := 0
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(name, ".go") {
			if n++; n%step == 0 {
				files = append(files, name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestEmptiedSourcesParseAlike compares with full parses over the standard
// library: a sample of it, or all with SOP_DOCS_ALL=1.
func TestEmptiedSourcesParseAlike(t *testing.T) {
	step := 20
	if os.Getenv("SOP_DOCS_ALL") != "" {
		step = 1
	}
	files, fallbacks := goFiles(t, filepath.Join(build.Default.GOROOT, "src"), step), 0
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		full, err := parseFully(content)
		if err != nil {
			continue
		}
		emptied, ok := blankBraces(nil, content)
		if !ok {
			fallbacks++
			continue
		}
		brief, err := parseFully(emptied)
		if err != nil {
			t.Errorf("%s: emptied: %v", name, err)
			continue
		}
		if got, want := outline(brief), outline(full); !slices.Equal(got, want) {
			t.Errorf("%s: outlines differ", name)
		}
	}
	t.Logf("%d files, %d of them not emptied", len(files), fallbacks)
	if fallbacks*100 > len(files) {
		t.Errorf("%d of %d files could not be emptied", fallbacks, len(files))
	}
}

func TestBlankBraces(t *testing.T) {
	for _, tc := range []struct{ name, src, want string }{
		{"body", "func f() { x }\n", "func f() {}\n"},
		{"lines stay", "func f() {\n\tx\n}\n// d\n", "func f() {\n\n}\n// d\n"},
		{"nested", "func f() { if x { y } }", "func f() {}"},
		{"string", "func f() { s = \"}\\\"}\" }", "func f() {}"},
		{"rune", "func f() { r = '}'; q = '\\''; o = '{' }", "func f() {}"},
		{"raw string", "func f() { s = `}\n\\`; t = `\"` }", "func f() {\n}"},
		{"comments", "func f() { // }\n /* } \n */ }", "func f() {\n\n}"},
		{"division", "func f() { a = b / c }", "func f() {}"},
		{"outside", "var s = \"{\" // {\nvar r = '{'\nvar w = `{`\n", "var s = \"{\" // {\nvar r = '{'\nvar w = `{`\n"},
		{"result type", "func f() struct{ X int } { return }", "func f() struct{} {}"},
		{"constraint", "func f[T interface{ ~int }]() {}", "func f[T interface{}]() {}"},
		{"literal", "var m = map[string]struct{ A int }{\"}\": {1}}", "var m = map[string]struct{}{}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := blankBraces(nil, []byte(tc.src))
			if !ok || string(got) != tc.want {
				t.Errorf("got %q, %v; want %q", got, ok, tc.want)
			}
		})
	}
	for _, src := range []string{"}", "{", "{\"\n\"}", "{`}", "{/*}", "{'", "x = '\n'"} {
		if got, ok := blankBraces(nil, []byte(src)); ok {
			t.Errorf("%q: got %q, want a refusal", src, got)
		}
	}
}

func FuzzBlankBraces(f *testing.F) {
	for _, seed := range []string{"package p\nfunc f() { \"}\" }", "package p\nvar x = `{`", "{'", "{\"\\", "/*", "//"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		emptied, ok := blankBraces(nil, content)
		if !ok {
			return
		}
		if strings.Count(string(emptied), "\n") != strings.Count(string(content), "\n") {
			t.Errorf("line ends differ")
		}
		full, err := parseFully(content)
		if err != nil {
			return
		}
		brief, err := parseFully(emptied)
		if err != nil {
			t.Fatalf("emptied source does not parse: %v\n%s", err, emptied)
		}
		if got, want := outline(brief), outline(full); !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
	})
}

// benchSources are 300 files of the standard library.
func benchSources(b *testing.B) [][]byte {
	b.Helper()
	var sources [][]byte
	for _, name := range goFiles(b, filepath.Join(build.Default.GOROOT, "src"), 30) {
		if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "testdata") {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		sources = append(sources, content)
	}
	return sources
}

func BenchmarkGoFullParse(b *testing.B) {
	sources := benchSources(b)
	for b.Loop() {
		for _, content := range sources {
			_, _ = parser.ParseFile(token.NewFileSet(), "", content, goMode)
		}
	}
}

func BenchmarkGoParse(b *testing.B) {
	sources := benchSources(b)
	for b.Loop() {
		for _, content := range sources {
			_, _ = parseGo(content)
		}
	}
}

func BenchmarkGoExamine(b *testing.B) {
	sources := benchSources(b)
	for b.Loop() {
		for _, content := range sources {
			if src, err := parseGo(content); err == nil {
				(&exportedCollector{src: src, facts: &goFile{}}).collect()
			}
		}
	}
}
