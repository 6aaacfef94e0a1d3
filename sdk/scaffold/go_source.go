package scaffold

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/scanner"
	"go/token"
	"slices"
	"strings"
)

// goSource is a parsed Go file.
type goSource struct {
	src  []byte
	set  *token.FileSet
	file *ast.File
}

func parseGo(src []byte) (*goSource, error) {
	g := &goSource{src: src, set: token.NewFileSet()}
	var err error
	g.file, err = parser.ParseFile(g.set, "", src, parser.ParseComments|parser.SkipObjectResolution)
	return g, err
}

// parsedGo parses the file of the gap; one that does not parse is refused.
func (j *job) parsedGo(name string) (*goSource, error) {
	content, err := j.read(name)
	if err != nil {
		return nil, err
	}
	g, err := parseGo(content)
	if err != nil {
		return nil, refuse("%s does not parse: %v", name, err)
	}
	return g, nil
}

// offset of pos in the file, not bent by //line directives.
func (g *goSource) offset(pos token.Pos) int { return g.set.PositionFor(pos, false).Offset }

func (g *goSource) line(pos token.Pos) int { return g.set.PositionFor(pos, false).Line }

// text is the source of a node.
func (g *goSource) text(n ast.Node) string {
	if n == nil {
		return ""
	}
	return string(g.src[g.offset(n.Pos()):g.offset(n.End())])
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

// insertComment puts paragraphs as line comments before the node at pos, which
// doc, that says nothing itself, may precede. gap is how many empty lines keep
// them from a comment above that they must not run into.
func (g *goSource) insertComment(pos token.Pos, doc *ast.CommentGroup, text string, width int) []byte {
	at := g.offset(pos)
	joins := doc != nil && len(strings.TrimSpace(strings.Trim(doc.List[0].Text, "/*"))) > 0
	if doc != nil {
		at = g.offset(doc.Pos())
	}
	eol := lineEnd(g.src)
	start := lineStart(g.src, at)
	before := g.src[start:at]
	if !isSpace(before) && !bytes.Equal(before, bom) {
		return splice(g.src, at, at, eol+g.comment(text, "", eol, width, joins))
	}
	if bytes.Equal(before, bom) {
		return splice(g.src, at, at, g.comment(text, "", eol, width, joins))
	}
	return splice(g.src, start, start, g.comment(text, string(before), eol, width, joins))
}

var bom = []byte("\ufeff")

// comment lays out paragraphs as line comments; joins ends them with an empty
// one, for directives or a deprecation follow.
func (g *goSource) comment(text, indent, eol string, width int, joins bool) string {
	var out strings.Builder
	for i, p := range paragraphs(text) {
		if i > 0 {
			out.WriteString(indent + "//" + eol)
		}
		for _, line := range fill(p, indent+"// ", indent+"// ", width) {
			out.WriteString(line + eol)
		}
	}
	if joins {
		out.WriteString(indent + "//" + eol)
	}
	return out.String()
}

func goParses(content []byte) error {
	_, err := parseGo(content)
	return err
}

// goStaysFormatted says what is wrong when gofmt would leave before alone and
// not after. Line ends are no matter of it.
func goStaysFormatted(before, after []byte) error {
	if before != nil && !isFormatted(before) || isFormatted(after) {
		return nil
	}
	return errors.New("gofmt would change it, which it would not before")
}

func isFormatted(src []byte) bool {
	src = bytes.ReplaceAll(src, []byte("\r\n"), []byte("\n"))
	out, err := format.Source(src)
	return err == nil && bytes.Equal(out, src)
}

// onlyComments says what is wrong when after differs from before in more than
// comments that were added: every token, and every comment of before in its
// order, must still be there.
func onlyComments(before, after []byte) error {
	old, new := goTokens(before), goTokens(after)
	at := 0
	for _, t := range new {
		switch {
		case at < len(old) && t == old[at]:
			at++
		case t.tok != token.COMMENT:
			return fmt.Errorf("the token %s would appear", t)
		}
	}
	if at < len(old) {
		return fmt.Errorf("the token %s would be lost", old[at])
	}
	return nil
}

type goToken struct {
	tok     token.Token
	literal string
}

// String shows the token.
func (t goToken) String() string { return t.tok.String() + " " + t.literal }

func goTokens(src []byte) []goToken {
	set := token.NewFileSet()
	var s scanner.Scanner
	s.Init(set.AddFile("", set.Base(), len(src)), src, nil, scanner.ScanComments)
	var all []goToken
	for {
		_, tok, literal := s.Scan()
		if tok == token.EOF {
			return all
		}
		if tok == token.SEMICOLON {
			literal = "" // written or from the end of a line
		}
		all = append(all, goToken{tok, literal})
	}
}

// receiverType is the name of the type that d is a method of, or "".
func receiverType(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
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

// sentinels are the package's error values, by Go's convention for their names,
// that the body of d returns by themselves, in order.
func sentinels(d *ast.FuncDecl) []string {
	var names []string
	if d.Body == nil {
		return nil
	}
	ast.Inspect(d.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			for _, result := range n.Results {
				if name := errorName(result); name != "" && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		return true
	})
	return names
}

func errorName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		if rest, ok := strings.CutPrefix(e.Name, "Err"); ok && rest != "" && ast.IsExported(rest) {
			return e.Name
		}
	case *ast.SelectorExpr:
		if pkg, ok := e.X.(*ast.Ident); ok && errorName(e.Sel) != "" {
			return pkg.Name + "." + e.Sel.Name
		}
	}
	return ""
}
