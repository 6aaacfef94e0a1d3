package main

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// sortMethods is a set of the methods of sort.Interface.
type sortMethods uint8

const (
	hasLen sortMethods = 1 << iota
	hasLess
	hasSwap
	hasAll = hasLen | hasLess | hasSwap
)

// wellKnown methods document themselves.
var wellKnown = map[string]bool{
	"Error": true, "Read": true, "ServeHTTP": true, "String": true, "Write": true, "Unwrap": true,
}

// exportedCollector finds undocumented exported symbols by the rules of
// revive's "exported" with its defaults, as of its version 1.17, of which it
// counts the missing comments only:
//
//   - package main, test files and generated files are left out, and so are
//     interface methods and methods of unexported types;
//   - a comment that holds but directives or a deprecation is none;
//   - a specification takes the comment of its group; values of one group
//     without any count once, at the first; trailing comments do not count;
//   - a value specification of several names, of which another than the first
//     is exported, is a matter of style there and not looked at here.
//
// Whether a comment begins with the symbol's name is no question of presence.
type exportedCollector struct {
	src              *goSource
	facts            *goFile
	privateReceivers bool
}

func (c *exportedCollector) collect() {
	for _, decl := range c.src.file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			c.function(d)
		case *ast.GenDecl:
			c.group(d)
		}
	}
}

func (c *exportedCollector) function(d *ast.FuncDecl) {
	name, kind := d.Name.Name, "function"
	var recv string
	if d.Recv != nil && len(d.Recv.List) > 0 {
		recv, kind = receiver(d), "method"
		c.noteSorting(recv, d)
	}
	if !ast.IsExported(name) || hasText(d.Doc) {
		return
	}
	symbol := goSymbol{name: name, kind: kind, line: c.src.line(d.Pos())}
	if kind == "method" {
		if wellKnown[name] || !c.privateReceivers && !ast.IsExported(recv) {
			return
		}
		symbol.name = recv + "." + name
		if name == "Len" || name == "Less" || name == "Swap" {
			c.facts.sorting = append(c.facts.sorting, symbol)
			return
		}
	}
	c.facts.missing = append(c.facts.missing, symbol)
}

// noteSorting records a method that has the signature of one of sort.Interface.
func (c *exportedCollector) noteSorting(recv string, d *ast.FuncDecl) {
	var m sortMethods
	switch d.Name.Name {
	case "Len":
		m = signature(d, hasLen, nil, []string{"int"})
	case "Less":
		m = signature(d, hasLess, []string{"int", "int"}, []string{"bool"})
	case "Swap":
		m = signature(d, hasSwap, []string{"int", "int"}, nil)
	}
	if m == 0 {
		return
	}
	if c.facts.methods == nil {
		c.facts.methods = make(map[string]sortMethods)
	}
	c.facts.methods[recv] |= m
}

// signature returns m if d has the given parameters and results.
func signature(d *ast.FuncDecl, m sortMethods, params, results []string) sortMethods {
	if slices.Equal(typeNames(d.Type.Params), params) && slices.Equal(typeNames(d.Type.Results), results) {
		return m
	}
	return 0
}

// typeNames lists the types of fields, one for each name; what is no plain
// identifier is empty.
func typeNames(fields *ast.FieldList) []string {
	if fields == nil {
		return nil
	}
	var names []string
	for _, f := range fields.List {
		name := ""
		if id, ok := f.Type.(*ast.Ident); ok {
			name = id.Name
		}
		for range max(1, len(f.Names)) {
			names = append(names, name)
		}
	}
	return names
}

// receiver is the name of the type that d is a method of, or "".
func receiver(d *ast.FuncDecl) string {
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	switch generic := t.(type) {
	case *ast.IndexExpr:
		t = generic.X
	case *ast.IndexListExpr:
		t = generic.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

func (c *exportedCollector) group(d *ast.GenDecl) {
	documented, counted := hasText(d.Doc), false
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if ast.IsExported(s.Name.Name) && !documented && !hasText(s.Doc) {
				c.add(s.Name.Name, "type", s)
			}
		case *ast.ValueSpec:
			if documented || counted || hasText(s.Doc) || !ast.IsExported(s.Names[0].Name) || severalExported(s) {
				continue
			}
			counted = true
			c.add(s.Names[0].Name, d.Tok.String(), s)
		}
	}
}

func (c *exportedCollector) add(name, kind string, at ast.Node) {
	c.facts.missing = append(c.facts.missing, goSymbol{name: name, kind: kind, line: c.src.line(at.Pos())})
}

// severalExported says whether a name after the first is exported.
func severalExported(s *ast.ValueSpec) bool {
	return slices.ContainsFunc(s.Names[1:], func(id *ast.Ident) bool { return token.IsExported(id.Name) })
}

// hasText says whether doc says anything besides directives and a deprecation.
func hasText(doc *ast.CommentGroup) bool {
	for line := range strings.Lines(doc.Text()) {
		if line = strings.TrimSpace(line); line != "" {
			return !strings.HasPrefix(line, "Deprecated: ")
		}
	}
	return false
}
