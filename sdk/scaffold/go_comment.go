package scaffold

import (
	"go/ast"
	"go/token"
	"strings"
)

// GoSymbol is what is known of a symbol of Go.
type GoSymbol struct {
	Name string
	// Kind is "function", "method", "type", "constant", "variable", or the
	// plural of the last two for a group, whose symbols are Names.
	Kind  string
	Names []string
	// Receiver is the type of a method's receiver as written.
	Receiver   string
	TypeParams []string
	// Parameters and Results are written "name (type)", or the type alone where
	// they have no name. Results leaves out a last one that is an error.
	Parameters []string
	Results    []string
	Variadic   bool
	Error      bool
	// Errors are exported error values that the body returns as they are.
	Errors []string
	// Underlying is "struct", "interface", "function" or "" for other types;
	// Type is a type, or an alias's target, as written where that is short.
	Underlying string
	Alias      bool
	Type       string
	Fields     []string // exported
	Methods    []string // of an interface
	Embedded   []string
	// Value is that of a constant or variable where it is short.
	Value string
}

// goTarget is a declaration that wants a comment.
type goTarget struct {
	pos    token.Pos
	doc    *ast.CommentGroup
	symbol *GoSymbol
}

// goComment puts a doc comment above an exported symbol.
func goComment(j *job) ([]Change, error) {
	g, err := j.parsedGo(j.Gap.Path)
	if err != nil {
		return nil, err
	}
	target, err := g.find(j.Gap)
	if err != nil {
		return nil, err
	}
	data := j.data()
	data.Go = target.symbol
	text, err := j.render(data)
	if err != nil {
		return nil, err
	}
	after := g.insertComment(target.pos, target.doc, text, j.number("width", 80))
	if err := onlyComments(g.src, after); err != nil {
		return nil, refuse("%s: a comment on %s cannot be put there: %v", j.Gap.Path, j.Gap.Symbol, err)
	}
	return []Change{{Path: j.Gap.Path, Before: g.src, Content: after}}, nil
}

// find looks for the declaration that a gap names, or stands on its line.
func (g *goSource) find(gap Gap) (*goTarget, error) {
	known := false
	for _, decl := range g.file.Decls {
		var t *goTarget
		var named bool
		switch d := decl.(type) {
		case *ast.FuncDecl:
			t, named = g.function(d, gap)
		case *ast.GenDecl:
			t, named = g.declaration(d, gap)
		}
		if t != nil {
			return t, nil
		}
		known = known || named
	}
	if known {
		return nil, ErrNothing
	}
	return nil, refuse("%s declares no %s", gap.Path, orLine(gap))
}

func orLine(gap Gap) string {
	if gap.Symbol != "" {
		return gap.Symbol
	}
	return "symbol on the line that is named"
}

// is says whether a gap names the symbol at pos. Two methods may have one name
// on different types, so Symbol is "Type.Method".
func (g *goSource) is(gap Gap, symbol string, pos token.Pos) bool {
	if gap.Symbol != "" {
		return gap.Symbol == symbol
	}
	return gap.Line > 0 && gap.Line == g.line(pos)
}

// function returns d as a target if the gap names it and it has no comment.
func (g *goSource) function(d *ast.FuncDecl, gap Gap) (t *goTarget, named bool) {
	symbol := d.Name.Name
	if recv := receiverType(d); recv != "" {
		symbol = recv + "." + symbol
	}
	if !g.is(gap, symbol, d.Pos()) {
		return nil, false
	}
	if hasText(d.Doc) {
		return nil, true
	}
	s := &GoSymbol{Name: d.Name.Name, Kind: "function", Errors: sentinels(d), TypeParams: g.values(d.Type.TypeParams)}
	if d.Recv != nil && len(d.Recv.List) > 0 {
		s.Kind, s.Receiver = "method", unbroken(g.text(d.Recv.List[0].Type))
	}
	g.signature(s, d.Type)
	return &goTarget{d.Pos(), d.Doc, s}, true
}

// signature fills in what a function takes and returns.
func (g *goSource) signature(s *GoSymbol, f *ast.FuncType) {
	s.Parameters, s.Results = g.values(f.Params), g.values(f.Results)
	if f.Params != nil && len(f.Params.List) > 0 {
		_, s.Variadic = f.Params.List[len(f.Params.List)-1].Type.(*ast.Ellipsis)
	}
	if f.Results != nil && len(f.Results.List) > 0 {
		last := f.Results.List[len(f.Results.List)-1]
		if id, ok := last.Type.(*ast.Ident); ok && id.Name == "error" {
			s.Error = true
			s.Results = s.Results[:len(s.Results)-1]
		}
	}
}

// values lists fields, one for each name.
func (g *goSource) values(fields *ast.FieldList) []string {
	if fields == nil {
		return nil
	}
	var all []string
	for _, f := range fields.List {
		typ := g.short(f.Type)
		if len(f.Names) == 0 {
			all = append(all, typ)
		}
		for _, name := range f.Names {
			if name.Name == "_" {
				all = append(all, unbroken("an unused "+typ))
				continue
			}
			all = append(all, unbroken(name.Name+" ("+typ+")"))
		}
	}
	return all
}

// maxType is how long a type is written out.
const maxType = 48

// short writes an expression on one line, or says what it is where it is long.
func (g *goSource) short(e ast.Expr) string {
	text := g.text(e)
	if len(text) <= maxType && plain(text) {
		return unbroken(text)
	}
	switch e := e.(type) {
	case *ast.StructType:
		return "struct"
	case *ast.InterfaceType:
		return "interface"
	case *ast.FuncType:
		return "function"
	case *ast.MapType:
		return "map"
	case *ast.ArrayType:
		return "slice"
	case *ast.ChanType:
		return "channel"
	case *ast.StarExpr:
		return "pointer"
	case *ast.Ellipsis:
		return "..." + g.short(e.Elt)
	case *ast.ParenExpr:
		return g.short(e.X)
	}
	return "value"
}

// plain says whether text can stand in a comment as it is: gofmt makes other
// quotes of doubled ones.
func plain(text string) bool {
	return !strings.ContainsAny(text, "\n\r\t\u00a0") && !strings.Contains(text, "``") && !strings.Contains(text, "''") &&
		!strings.Contains(text, "//") && !strings.Contains(text, "/*")
}

// declaration returns what of d wants a comment if the gap names it.
func (g *goSource) declaration(d *ast.GenDecl, gap Gap) (t *goTarget, named bool) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if !g.is(gap, s.Name.Name, s.Pos()) {
				continue
			}
			if hasText(d.Doc) || hasText(s.Doc) {
				return nil, true
			}
			return g.typeTarget(d, s), true
		case *ast.ValueSpec:
			for _, id := range s.Names {
				if !g.is(gap, id.Name, s.Pos()) {
					continue
				}
				if hasText(d.Doc) || hasText(s.Doc) {
					return nil, true
				}
				return g.valueTarget(d, s), true
			}
		}
	}
	return nil, false
}

// typeTarget is a type, which in a group gets a comment of its own.
func (g *goSource) typeTarget(d *ast.GenDecl, s *ast.TypeSpec) *goTarget {
	symbol := &GoSymbol{Name: s.Name.Name, Kind: "type", Alias: s.Assign.IsValid(), TypeParams: g.values(s.TypeParams), Type: g.short(s.Type)}
	switch t := s.Type.(type) {
	case *ast.StructType:
		symbol.Underlying = "struct"
		symbol.Fields, symbol.Embedded = g.members(t.Fields)
	case *ast.InterfaceType:
		symbol.Underlying = "interface"
		symbol.Methods, symbol.Embedded = g.members(t.Methods)
	case *ast.FuncType:
		symbol.Underlying = "function"
		g.signature(symbol, t)
	}
	if d.Lparen.IsValid() {
		return &goTarget{s.Pos(), s.Doc, symbol}
	}
	return &goTarget{d.Pos(), d.Doc, symbol}
}

// members are the exported names among fields, and what is embedded.
func (g *goSource) members(fields *ast.FieldList) (names, embedded []string) {
	for _, f := range fields.List {
		if len(f.Names) == 0 {
			embedded = append(embedded, g.short(f.Type))
		}
		for _, id := range f.Names {
			if id.IsExported() {
				names = append(names, id.Name)
			}
		}
	}
	return names, embedded
}

// valueTarget is a constant or variable, or the whole group that it is the
// first of: values of a group share one comment.
func (g *goSource) valueTarget(d *ast.GenDecl, s *ast.ValueSpec) *goTarget {
	kind := map[token.Token]string{token.CONST: "constant", token.VAR: "variable"}[d.Tok]
	symbol := &GoSymbol{Name: s.Names[0].Name, Kind: kind, Names: exportedNames(d)}
	if s.Type != nil {
		symbol.Type = g.short(s.Type)
	}
	if len(symbol.Names) > 1 {
		symbol.Kind += "s"
	} else if len(s.Values) == 1 && len(s.Names) == 1 {
		if text := g.text(s.Values[0]); len(text) <= maxType && plain(text) && isValue(s.Values[0]) {
			symbol.Value = unbroken(text)
		}
	}
	return &goTarget{d.Pos(), d.Doc, symbol}
}

func exportedNames(d *ast.GenDecl) []string {
	var names []string
	for _, spec := range d.Specs {
		if s, ok := spec.(*ast.ValueSpec); ok {
			for _, id := range s.Names {
				if id.IsExported() {
					names = append(names, id.Name)
				}
			}
		}
	}
	return names
}

// isValue says whether e is a value to quote: a literal or an expression of
// literals and names, not a call.
func isValue(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		return e.Name != "iota" && e.Name != "nil"
	case *ast.BinaryExpr:
		return isValue(e.X) && isValue(e.Y)
	case *ast.UnaryExpr:
		return isValue(e.X)
	case *ast.ParenExpr:
		return isValue(e.X)
	case *ast.SelectorExpr:
		return isValue(e.X)
	}
	return false
}
