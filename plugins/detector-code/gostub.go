package main

import (
	"go/ast"
	"go/token"
	"regexp"
	"strconv"
)

// unimplemented is what stubs say of themselves.
var (
	unimplemented = regexp.MustCompile(`(?i)\b(un-?implemented|not (yet )?(been )?implemented|not implemented yet|implement me|unimpl)\b`)
	todoText      = regexp.MustCompile(`(?i)^\W*TODO\b|\bTODO:`)
)

// stubbed says what a body does instead of its work, or nothing.
func stubbed(body *ast.BlockStmt) string {
	if len(body.List) != 1 {
		return ""
	}
	switch s := body.List[0].(type) {
	case *ast.ExprStmt:
		call, ok := s.X.(*ast.CallExpr)
		if !ok || callee(call) != "panic" || len(call.Args) != 1 {
			return ""
		}
		if text, ok := textOf(call.Args[0]); ok && (unimplemented.MatchString(text) || todoText.MatchString(text)) {
			return "it only panics with " + strconv.Quote(clip(text))
		}
	case *ast.ReturnStmt:
		return returned(s)
	}
	return ""
}

// returned says so when a statement returns an error that says that nothing is
// implemented, beside zero values.
func returned(s *ast.ReturnStmt) string {
	how := ""
	for _, e := range s.Results {
		call, ok := e.(*ast.CallExpr)
		if !ok {
			if !isZero(e) {
				return ""
			}
			continue
		}
		text, ok := textOf(call)
		if !ok || how != "" || !unimplemented.MatchString(text) {
			return ""
		}
		how = "it only returns the error " + strconv.Quote(clip(text))
	}
	return how
}

// isZero says whether e looks like a zero value.
func isZero(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "nil" || e.Name == "false"
	case *ast.BasicLit:
		return e.Value == "0" || e.Value == `""` || e.Value == "``" || e.Value == "0.0"
	case *ast.CompositeLit:
		return len(e.Elts) == 0
	case *ast.UnaryExpr:
		return e.Op == token.AND && isZero(e.X) || e.Op == token.SUB
	}
	return false
}

// textOf returns the text of a string, or of an error or string made with one.
func textOf(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr: // "not implemented: " + name
		if text, ok := textOf(e.X); ok && e.Op == token.ADD {
			return text, true
		}
		if e.Op == token.ADD {
			return textOf(e.Y)
		}
	case *ast.CallExpr:
		switch callee(e) {
		case "New", "Errorf", "Error", "Sprintf", "Sprint", "Newf":
		default:
			return "", false
		}
		for _, arg := range e.Args[:min(2, len(e.Args))] { // status.Error has a code first
			if text, ok := textOf(arg); ok {
				return text, true
			}
		}
	}
	return "", false
}

// callee returns the last name of what is called.
func callee(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// clip shortens text for a message.
func clip(text string) string { return plain([]byte(text)) }
