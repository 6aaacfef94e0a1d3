package main

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/scaffold"
)

// fixInOne closes findings as [fix] does, with the tree listed once: what a
// patch costs by itself.
func fixInOne(t testing.TB, dir string, findings []*pluginv1.Finding) (closed int, stay []string) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tree, err := scaffold.NewDirTree(root)
	if err != nil {
		t.Fatal(err)
	}
	set, err := scaffold.Bundled()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		gap := scaffold.Gap{
			Rule: f.GetRule(), Type: "documentation_incomplete", Path: f.GetLocation().GetPath(), Line: int(f.GetLocation().GetLine()),
			Symbol: f.GetLocation().GetSymbol(), Message: f.GetMessage(), Properties: f.GetProperties(),
		}
		for _, s := range set.For(gap) {
			changes, err := s.Apply(t.Context(), &scaffold.Input{Tree: tree, Gap: gap})
			var refusal *scaffold.RefusedError
			switch {
			case errors.As(err, &refusal):
				stay = append(stay, describe(f)+": "+err.Error())
			case err != nil && !errors.Is(err, scaffold.ErrNothing):
				t.Errorf("%s: %v", describe(f), err)
			default:
				closed++
			}
			for _, c := range changes {
				if err := writeFile(root, c); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return closed, stay
}

// bareRepository copies the Go files of this repository without doc comments.
func bareRepository(t *testing.T, root string) {
	out, err := exec.CommandContext(t.Context(), "git", "-C", "../..", "ls-files").Output()
	if err != nil {
		t.Skipf("git ls-files: %v", err)
	}
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSpace(name)
		content, err := os.ReadFile(filepath.Join("../..", name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".go") && !strings.Contains(name, "testdata") {
			content = withoutDocs(t, content)
		}
		write(t, root, name, content)
	}
}

func withoutDocs(t *testing.T, src []byte) []byte {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, "", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	docs := []*ast.CommentGroup{f.Doc}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			docs = append(docs, d.Doc)
		case *ast.GenDecl:
			if d.Tok == token.IMPORT {
				continue
			}
			docs = append(docs, d.Doc)
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					docs = append(docs, s.Doc)
				case *ast.ValueSpec:
					docs = append(docs, s.Doc)
				}
			}
		}
	}
	out := slices.Clone(src)
	slices.Reverse(docs)
	slices.SortStableFunc(docs, func(a, b *ast.CommentGroup) int {
		if a == nil || b == nil {
			return 0
		}
		return int(b.Pos() - a.Pos())
	})
	for _, doc := range docs {
		if doc == nil || slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
			return strings.HasPrefix(c.Text, "//go:") || strings.HasPrefix(c.Text, "//nolint")
		}) {
			continue
		}
		from, to := set.PositionFor(doc.Pos(), false).Offset, set.PositionFor(doc.End(), false).Offset
		if to < len(out) && out[to] == '\n' {
			to++
			for to < len(out) && out[to] == '\t' {
				to++
			}
		}
		out = slices.Delete(out, from, to)
	}
	return out
}

// pythonLibrary copies Python's standard library.
func pythonLibrary(t *testing.T, root string) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	out, err := exec.CommandContext(t.Context(), python, "-c", "import os; print(os.path.dirname(os.__file__))").Output()
	if err != nil {
		t.Fatal(err)
	}
	lib := strings.TrimSpace(string(out))
	for name := range snapshotNames(t, lib) {
		content, err := os.ReadFile(filepath.Join(lib, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, root, name, content)
	}
}

func snapshotNames(t *testing.T, lib string) map[string]bool {
	names := make(map[string]bool)
	for _, pattern := range []string{"*.py", "*/*.py"} {
		found, err := filepath.Glob(filepath.Join(lib, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if rel, err := filepath.Rel(lib, f); err == nil {
				names[filepath.ToSlash(rel)] = true
			}
		}
	}
	return names
}
