package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"sort"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/detector"
)

// goFunc is a function of a Go file.
type goFunc struct {
	name, kind string
	// line is that of its first token, from and to enclose it with its comment.
	line, from, to int
	body           *ast.BlockStmt
}

// examineGo looks for everything in a Go file.
func examineGo(_ context.Context, r *report) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "", r.src.Content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		line, message := 0, err.Error()
		var list scanner.ErrorList
		if errors.As(err, &list) && len(list) > 0 {
			line, message = list[0].Pos.Line, list[0].Msg
		}
		r.src.Diagnose(line, "PARSE_ERROR", message)
		return fmt.Errorf("parse: %w", detector.ErrSkipped)
	}
	at := fset.File(file.FileStart)
	line := func(p token.Pos) int { return at.PositionFor(p, false).Line }
	functions := goFunctions(file, line)
	if r.set.markers.in(r.src.Content) {
		r.goComments(file, functions, line)
	}
	if r.functions {
		r.goFunctions(functions)
	}
	return nil
}

// goComments reports the markers in the comments of a file.
func (r *report) goComments(file *ast.File, functions []goFunc, line func(token.Pos) int) {
	for _, group := range file.Comments {
		for _, c := range group.List {
			r.comment(line(c.Pos()), []byte(c.Text), func(n int) string { return enclosing(functions, n) })
		}
	}
}

// goFunctions reports stubs and complex functions.
func (r *report) goFunctions(functions []goFunc) {
	for _, f := range functions {
		if how := stubbed(f.body); how != "" && f.kind != "function literal" {
			r.stub(f.line, f.name, f.kind, how, pluginv1.Confidence_CONFIDENCE_HIGH)
		}
		r.complexity(f.line, f.name, f.kind, goComplexity(f.body))
	}
}

// goFunctions lists the functions, methods, and function literals that are the
// value of a package-level variable, in order.
func goFunctions(file *ast.File, line func(token.Pos) int) []goFunc {
	var out []goFunc
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Body == nil {
				continue
			}
			f := goFunc{name: d.Name.Name, kind: "function", line: line(d.Type.Func), from: line(d.Pos()), to: line(d.End()), body: d.Body}
			if d.Doc != nil {
				f.from = line(d.Doc.Pos())
			}
			if recv := receiver(d); recv != "" {
				f.name, f.kind = recv+"."+f.name, "method"
			}
			out = append(out, f)
		case *ast.GenDecl:
			if d.Tok == token.VAR {
				out = append(out, goLiterals(d, line)...)
			}
		}
	}
	return out
}

// goLiterals lists the variables of d whose value is a function.
func goLiterals(d *ast.GenDecl, line func(token.Pos) int) []goFunc {
	var out []goFunc
	for _, spec := range d.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if !ok {
			continue
		}
		for i, value := range v.Values {
			lit, ok := value.(*ast.FuncLit)
			if !ok || i >= len(v.Names) {
				continue
			}
			out = append(out, goFunc{
				name: v.Names[i].Name, kind: "function literal", line: line(v.Names[i].Pos()),
				from: line(v.Pos()), to: line(lit.End()), body: lit.Body,
			})
		}
	}
	return out
}

// receiver returns the name of the type that d is a method of, or nothing.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.ParenExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// enclosing returns the name of the function around a line, or nothing.
func enclosing(functions []goFunc, line int) string {
	i := sort.Search(len(functions), func(i int) bool { return functions[i].from > line }) - 1
	if i < 0 || line > functions[i].to {
		return ""
	}
	return functions[i].name
}

// goComplexity counts as gocyclo does.
func goComplexity(body *ast.BlockStmt) int {
	n := 1
	ast.Inspect(body, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if x.List != nil {
				n++
			}
		case *ast.CommClause:
			if x.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if x.Op == token.LAND || x.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}
