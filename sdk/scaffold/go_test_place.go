package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/format"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// goTest writes a new test file that calls the function or method of the gap.
// The template is given the symbol; what is around it, the package clause,
// imports and build constraint, is made here.
func goTest(j *job) ([]Change, error) {
	g, err := j.parsedGo(j.Gap.Path)
	if err != nil {
		return nil, err
	}
	d := g.testable(j.Gap)
	if d == nil {
		return nil, refuse("%s declares no function %s", j.Gap.Path, orLine(j.Gap))
	}
	if reason := untestable(g, d); reason != "" {
		return nil, refuse("%s: %s", d.Name.Name, reason)
	}
	if name := testedIn(j, d); name != "" {
		return nil, fmt.Errorf("%s has a test that calls %s: %w", name, d.Name.Name, ErrNothing)
	}
	data := j.data()
	data.Go, err = g.testFacts(d)
	if err != nil {
		return nil, err
	}
	text, err := j.render(data)
	if err != nil {
		return nil, err
	}
	content, err := format.Source([]byte(g.testHeader(d) + text + "\n"))
	if err != nil {
		return nil, refuse("the template makes no Go: %v", err)
	}
	return []Change{{Path: testFileName(j, d), Content: content}}, nil
}

// testable is the function that a gap names.
func (g *goSource) testable(gap Gap) *ast.FuncDecl {
	for _, decl := range g.file.Decls {
		d, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		symbol := d.Name.Name
		if recv := receiverType(d); recv != "" {
			symbol = recv + "." + symbol
		}
		if g.is(gap, symbol, d.Pos()) {
			return d
		}
	}
	return nil
}

// untestable says why a test cannot call d, or nothing.
func untestable(g *goSource, d *ast.FuncDecl) string {
	name := d.Name.Name
	switch {
	case g.file.Name.Name == "main" && name == "main", name == "init", name == "_":
		return "a test cannot call it"
	case d.Type.TypeParams != nil, d.Recv != nil && isGeneric(d.Recv.List[0].Type):
		return "it is generic, and nothing says which types to call it with"
	case slices.ContainsFunc(g.file.Imports, func(s *ast.ImportSpec) bool { return s.Path.Value == `"C"` }):
		return "its file uses cgo, which a test file cannot"
	case slices.ContainsFunc(g.file.Imports, func(s *ast.ImportSpec) bool { return s.Name != nil && s.Name.Name == "." }):
		return "its file has a dot import, so that its types cannot be told apart"
	}
	return ""
}

func isGeneric(t ast.Expr) bool {
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	switch t.(type) {
	case *ast.IndexExpr, *ast.IndexListExpr:
		return true
	}
	return false
}

// testedIn is a test file of the directory that holds a call of d, or "".
func testedIn(j *job, d *ast.FuncDecl) string {
	dir := path.Dir(j.Gap.Path)
	for _, base := range beside(j.Tree, dir) {
		if !strings.HasSuffix(base, "_test.go") {
			continue
		}
		content, err := j.Tree.Read(path.Join(dir, base))
		if err != nil || !bytes.Contains(content, []byte(d.Name.Name)) {
			continue
		}
		test, err := parseGo(content)
		if err != nil {
			continue
		}
		calls := false
		ast.Inspect(test.file, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				calls = calls || calledName(c) == d.Name.Name
			}
			return !calls
		})
		if calls {
			return base
		}
	}
	return ""
}

func calledName(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// testFacts describes d for a test: parameters are "name type", with names that
// clash with nothing; the receiver is the first.
func (g *goSource) testFacts(d *ast.FuncDecl) (*GoSymbol, error) {
	s := &GoSymbol{Name: d.Name.Name, Kind: "function", Errors: sentinels(d)}
	if recv := receiverType(d); recv != "" {
		s.Kind, s.Receiver = "method", g.text(d.Recv.List[0].Type)
	}
	n := 0
	for _, f := range d.Type.Params.List {
		typ := g.text(f.Type)
		if e, ok := f.Type.(*ast.Ellipsis); ok {
			s.Variadic, typ = true, "[]"+g.text(e.Elt)
		}
		if len(typ) > 4*maxType || strings.Contains(typ, "\n") {
			return nil, refuse("%s: a parameter's type is written over several lines", d.Name.Name)
		}
		for range max(1, len(f.Names)) {
			n++
			s.Parameters = append(s.Parameters, "arg"+strconv.Itoa(n)+" "+typ)
			s.Names = append(s.Names, "arg"+strconv.Itoa(n))
		}
	}
	if d.Type.Results != nil {
		for _, f := range d.Type.Results.List {
			for range max(1, len(f.Names)) {
				s.Results = append(s.Results, "got"+strconv.Itoa(len(s.Results)+1))
			}
		}
	}
	return s, nil
}

// testHeader is the head of a test file for d: the file's build constraint, the
// package clause and the imports that the parameters' types need.
func (g *goSource) testHeader(d *ast.FuncDecl) string {
	var out strings.Builder
	for _, group := range g.file.Comments {
		for _, c := range group.List {
			if c.Pos() < g.file.Package && constraint.IsGoBuild(c.Text) {
				out.WriteString(strings.TrimSpace(c.Text) + "\n\n")
			}
		}
	}
	out.WriteString("package " + g.file.Name.Name + "\n\n")
	needed := []string{`"testing"`}
	for _, s := range g.file.Imports {
		if name := importName(s); usesPackage(d, name) && s.Path.Value != `"testing"` {
			spec := s.Path.Value
			if s.Name != nil {
				spec = s.Name.Name + " " + spec
			}
			needed = append(needed, spec)
		}
	}
	slices.Sort(needed)
	if len(needed) == 1 {
		out.WriteString("import " + needed[0] + "\n\n")
	} else {
		out.WriteString("import (\n" + strings.Join(needed, "\n") + "\n)\n\n")
	}
	return out.String()
}

// importName is the name that a package is used by; without one in the import
// it is a guess by the path, which the check of types confirms.
func importName(s *ast.ImportSpec) string {
	if s.Name != nil {
		return s.Name.Name
	}
	name, err := strconv.Unquote(s.Path.Value)
	if err != nil {
		return ""
	}
	base := path.Base(name)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(name))
	}
	return base
}

func usesPackage(d *ast.FuncDecl, name string) bool {
	uses := false
	look := func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := s.X.(*ast.Ident); ok && id.Name == name {
				uses = true
			}
		}
		return !uses
	}
	ast.Inspect(d.Type.Params, look)
	return uses
}

// testFileName is a new file beside the one of the gap. What stands before
// _test keeps the file's own suffixes for operating system and processor, and
// ends in none by chance.
func testFileName(j *job, d *ast.FuncDecl) string {
	stem := strings.TrimSuffix(j.Gap.Path, ".go")
	if name := stem + "_test.go"; !has(j.Tree, name) {
		return name
	}
	suffix := "_call_test.go"
	symbol := snake(d.Name.Name)
	if recv := receiverType(d); recv != "" {
		symbol = snake(recv) + "_" + symbol
	}
	dir, base := path.Split(stem)
	name := path.Join(dir, base+"_"+symbol+suffix)
	for n := 2; has(j.Tree, name); n++ {
		name = path.Join(dir, base+"_"+symbol+"_"+strconv.Itoa(n)+suffix)
	}
	return name
}

// snake makes snake_case of CamelCase.
func snake(name string) string {
	var out strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

// goCompiles checks the types of the package that c belongs to, with c. A
// package that imports more than the standard library cannot be checked here.
func goCompiles(j *job, c Change) error {
	set := token.NewFileSet()
	tree := newPatched(j.Tree, []Change{c})
	dir := path.Dir(c.Path)
	var files []*ast.File
	pkg := ""
	for _, base := range append([]string{path.Base(c.Path)}, beside(tree, dir)...) {
		if len(files) > 0 && base == path.Base(c.Path) || path.Ext(base) != ".go" || !buildable(tree, dir, base) {
			continue
		}
		content, err := tree.Read(path.Join(dir, base))
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(set, base, content, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if pkg == "" {
			pkg = f.Name.Name
		}
		if f.Name.Name == pkg {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		return errors.New("its build constraints leave it out on this machine")
	}
	if name := notStandard(files); name != "" {
		return fmt.Errorf("the package imports %s, which is not of the standard library, so that its types cannot be checked", name)
	}
	if err := findGo(); err != nil {
		return err
	}
	conf := types.Config{Importer: importer.ForCompiler(set, "source", nil), FakeImportC: true}
	_, err := conf.Check(dir, set, files, nil)
	return err
}

func notStandard(files []*ast.File) string {
	for _, f := range files {
		for _, s := range f.Imports {
			name, err := strconv.Unquote(s.Path.Value)
			if first, _, _ := strings.Cut(name, "/"); err != nil || strings.Contains(first, ".") || name == "C" {
				return name
			}
		}
	}
	return ""
}
