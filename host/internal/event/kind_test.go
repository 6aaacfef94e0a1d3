package event_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sop-host/sop/host/internal/event"
)

// source is the code of the host, by directory beneath host/internal.
type source map[string][]*ast.File

func readSource(t *testing.T) source {
	t.Helper()
	all := make(source)
	set := token.NewFileSet()
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || e.Name() == "storetest") {
			return fs.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
		all[path.Dir(name)] = append(all[path.Dir(name)], file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// each visits what lies in a directory.
func (s source) each(dir string, visit func(ast.Node)) {
	for _, file := range s[dir] {
		ast.Inspect(file, func(n ast.Node) bool { visit(n); return true })
	}
}

// literal is the value of a constant text.
func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// constants are the values of the constants of a type in a directory, and by name.
func (s source) constants(dir, typ string) map[string]string {
	found := make(map[string]string)
	s.each(dir, func(n ast.Node) {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return
		}
		named, typed := spec.Type.(*ast.Ident)
		if typ != "" && (!typed || named.Name != typ) {
			return
		}
		for i, value := range spec.Values {
			if text, ok := literal(value); ok {
				found[spec.Names[i].Name] = text
			}
		}
	})
	return found
}

// named says whether a type is the one of that name, of this package or another.
func named(e ast.Expr, pkg, name string) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == name
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return ok && x.Name == pkg && e.Sel.Name == name
	}
	return false
}

// kindText recognises kinds that stand in tables.
var kindText = regexp.MustCompile(`^[a-z]+\.[a-z_]+$`)

// published is what the code says of kinds: those that stand there, and the nouns
// with which some are put together.
func (s source) published(t *testing.T) (kinds map[string]bool, nouns map[string]bool) {
	t.Helper()
	kinds, nouns = make(map[string]bool), make(map[string]bool)
	for dir := range s {
		ofAudit := path.Base(dir) == "audit"
		s.each(dir, func(n ast.Node) {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return
			}
			record := named(lit.Type, "audit", "Record") && (ofAudit || !isIdent(lit.Type))
			told := named(lit.Type, "event", "Record") && !isIdent(lit.Type)
			if !record && !told {
				return
			}
			for _, element := range lit.Elts {
				pair, ok := element.(*ast.KeyValueExpr)
				if key, isName := pair.Key.(*ast.Ident); !ok || !isName || key.Name != "Action" && key.Name != "Kind" {
					continue
				}
				s.kindOf(t, dir, pair.Value, kinds, nouns)
			}
		})
	}
	return kinds, nouns
}

func isIdent(e ast.Expr) bool { _, ok := e.(*ast.Ident); return ok }

// kindOf adds what an expression for a kind can be.
func (s source) kindOf(t *testing.T, dir string, e ast.Expr, kinds, nouns map[string]bool) {
	t.Helper()
	if text, ok := literal(e); ok {
		kinds[text] = true
		return
	}
	switch e := e.(type) {
	case *ast.BinaryExpr:
		if noun, ok := literal(e.X); ok {
			nouns[noun] = true
			return
		}
	case *ast.Ident, *ast.SelectorExpr:
		name, from := "", dir
		if id, ok := e.(*ast.Ident); ok {
			name = id.Name
		} else if sel := e.(*ast.SelectorExpr); isIdent(sel.X) {
			name = sel.Sel.Name
			if text, ok := s.constants(sel.X.(*ast.Ident).Name, "")[name]; ok {
				kinds[text] = true
				return
			}
		}
		if text, ok := s.constants(from, "")[name]; ok {
			kinds[text] = true
			return
		}
		if name == "Action" || name == "action" { // of a table: what stands in the package counts
			s.each(dir, func(n ast.Node) {
				if lit, ok := n.(*ast.CompositeLit); ok && lit.Type == nil && len(lit.Elts) > 0 {
					if text, ok := literal(lit.Elts[0]); ok && kindText.MatchString(text) {
						kinds[text] = true
					}
				}
			})
			s.assigned(dir, "action", func(text string) {
				if kindText.MatchString(text) {
					kinds[text] = true
				}
			})
			return
		}
	}
	t.Errorf("%s: it cannot be seen what kind %T is: extend this test", dir, e)
}

// assigned visits the texts that are assigned to a variable, and those that are
// passed to moved as the action.
func (s source) assigned(dir, variable string, visit func(string)) {
	s.each(dir, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if id, ok := left.(*ast.Ident); ok && id.Name == variable && i < len(n.Rhs) {
					if text, ok := literal(n.Rhs[i]); ok {
						visit(text)
					}
				}
			}
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "moved" && len(n.Args) > 4 {
				if text, ok := literal(n.Args[4]); ok {
					visit(text)
				}
			}
		case *ast.KeyValueExpr:
			if id, ok := n.Key.(*ast.Ident); ok && id.Name == "Action" {
				if text, ok := literal(n.Value); ok {
					visit(text)
				}
			}
		}
	})
}

// verbs are those of the nouns with which kinds are put together.
func (s source) verbs(t *testing.T, noun string) []string {
	t.Helper()
	values := func(dir, typ string, but ...string) []string {
		found := s.constants(dir, typ)
		maps.DeleteFunc(found, func(_, v string) bool { return slices.Contains(but, v) })
		return slices.Collect(maps.Values(found))
	}
	switch noun {
	case "agent.", "token.", "patch.", "maintenance.":
		return values(strings.TrimSuffix(noun, "."), "Action", "used") // single uses of tokens are no events
	case "task.": // actionOf has other words for these states
		return append(values("task", "Action"), values("task", "State", "ready", "leased", "running", "backlog")...)
	case "gap.": // gapVerb has other words for these states
		return append(values("gap", "State", "suppressed", "acknowledged"), "reopen", "suppress", "acknowledge")
	case "backup.":
		var out []string
		s.assigned("backup", "action", func(text string) { out = append(out, text) })
		return out
	case "access.", "plugin.": // no events; whatever plugins say
		return nil
	}
	t.Errorf("kinds are put together with %q: add the verbs to this test", noun)
	return nil
}

// Every kind that the code makes is in the list, and no other.
func TestKindsAreThoseOfTheCode(t *testing.T) {
	s := readSource(t)
	found, nouns := s.published(t)
	for noun := range nouns {
		for _, verb := range s.verbs(t, noun) {
			found[noun+verb] = true
		}
	}
	// Of a gap, the log has sums; what is decided about access, and each use of a token, is in the log alone.
	maps.DeleteFunc(found, func(kind string, _ bool) bool {
		return strings.HasPrefix(kind, "access.") || slices.Contains([]string{"gap.scan", "gap.follow", "gap.lapse", "token.used"}, kind)
	})
	want := slices.Sorted(maps.Keys(found))
	if len(want) < 60 {
		t.Fatalf("only %d kinds were found in the code: %v", len(want), want)
	}
	got := event.Kinds()
	for _, kind := range want {
		if !slices.Contains(got, kind) {
			t.Errorf("%s is published and not in the list of kinds", kind)
		}
	}
	for _, kind := range got {
		if !found[kind] {
			t.Errorf("%s is in the list of kinds and never published", kind)
		}
	}
}

func TestMadeByPlugins(t *testing.T) {
	for kind, want := range map[string]bool{"plugin.snapshot.prune": true, "plugin.start": false, "task.a.b": false} {
		if got := event.MadeByPlugins(kind); got != want {
			t.Errorf("%s: %v", kind, got)
		}
	}
}
