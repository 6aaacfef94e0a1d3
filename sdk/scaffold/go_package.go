package scaffold

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// GoPackage is what is known of a Go package.
type GoPackage struct {
	Name string
	// Command is the name of the directory where Name is main.
	Command string
	// Exported symbols, by name.
	Types, Functions, Constants, Variables []string
	// Files are those of the package without tests.
	Files []string
	// Imports are those of the standard library and others, by path.
	Imports []string
}

// goPackageComment puts a package comment above the package clause of the
// file that the gap names, or into a new doc.go where the parameter separate
// is set.
func goPackageComment(j *job) ([]Change, error) {
	g, err := j.parsedGo(j.Gap.Path)
	if err != nil {
		return nil, err
	}
	dir := path.Dir(j.Gap.Path)
	sources := packageSources(j, dir, g.file.Name.Name)
	for _, s := range sources {
		if s.file.Doc.Text() != "" {
			return nil, ErrNothing
		}
	}
	data := j.data()
	data.Package = describePackage(g.file.Name.Name, dir, sources)
	text, err := j.render(data)
	if err != nil {
		return nil, err
	}
	width := j.number("width", 80)
	docFile := path.Join(dir, "doc.go")
	if separate, _ := j.params["separate"].(bool); separate && !has(j.Tree, docFile) {
		content := g.comment(text, "", "\n", width, false) + "package " + g.file.Name.Name + "\n"
		return []Change{{Path: docFile, Content: []byte(content)}}, nil
	}
	after := g.insertPackageComment(text, width)
	if err := onlyComments(g.src, after); err != nil {
		return nil, refuse("%s: a package comment cannot be put there: %v", j.Gap.Path, err)
	}
	return []Change{{Path: j.Gap.Path, Before: g.src, Content: after}}, nil
}

// insertPackageComment puts text directly above the package clause. What
// directives stand there already, such as build constraints, are kept apart by
// an empty line.
func (g *goSource) insertPackageComment(text string, width int) []byte {
	at := g.offset(g.file.Package)
	start := lineStart(g.src, at)
	eol := lineEnd(g.src)
	comment := g.comment(text, "", eol, width, false)
	if before := g.src[start:at]; !isSpace(before) {
		if string(before) == string(bom) {
			return splice(g.src, at, at, comment)
		}
		return splice(g.src, at, at, eol+comment)
	}
	if start > 0 && !isSpace(g.src[lineStart(g.src, start-1):start]) {
		comment = eol + comment
	}
	return splice(g.src, start, start, comment)
}

// namedSource is a Go file of a package.
type namedSource struct {
	*goSource
	name string
}

// packageSources parses the files of a package in dir, tests left out. Those
// that do not parse are left out too.
func packageSources(j *job, dir, pkg string) []namedSource {
	var all []namedSource
	for _, base := range beside(j.Tree, dir) {
		if !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
			continue
		}
		content, err := j.Tree.Read(path.Join(dir, base))
		if err != nil {
			continue
		}
		if g, err := parseGo(content); err == nil && g.file.Name.Name == pkg {
			all = append(all, namedSource{g, base})
		}
	}
	return all
}

func describePackage(name, dir string, sources []namedSource) *GoPackage {
	p := &GoPackage{Name: name}
	if name == "main" {
		p.Command = path.Base(dir)
		if dir == "." {
			p.Command = "main"
		}
	}
	for _, s := range sources {
		p.Files = append(p.Files, s.name)
		for _, spec := range s.file.Imports {
			p.Imports = append(p.Imports, strings.Trim(spec.Path.Value, "`\""))
		}
		for _, decl := range s.file.Decls {
			p.add(decl)
		}
	}
	for _, names := range []*[]string{&p.Types, &p.Functions, &p.Constants, &p.Variables, &p.Imports} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	return p
}

func (p *GoPackage) add(decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.IsExported() {
			p.Functions = append(p.Functions, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if s, ok := spec.(*ast.TypeSpec); ok && s.Name.IsExported() {
				p.Types = append(p.Types, s.Name.Name)
			}
		}
		switch d.Tok {
		case token.CONST:
			p.Constants = append(p.Constants, exportedNames(d)...)
		case token.VAR:
			p.Variables = append(p.Variables, exportedNames(d)...)
		}
	}
}
