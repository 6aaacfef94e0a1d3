package main

import (
	"errors"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/scanner"
	"go/token"
	"strings"
	"sync"

	"github.com/sop-host/sop/sdk/detector"
)

// goFile is what is remembered of one Go file.
type goFile struct {
	pkg        string
	clause     int32 // line of the package clause
	documented bool  // has a package comment
	broken     bool  // did not parse: never covered
	// missing are undocumented, whatever other files of the package hold.
	missing []goSymbol
	// sorting are undocumented Len, Less and Swap: they need no comment when
	// the package gives their type all three.
	sorting []goSymbol
	methods map[string]sortMethods // by receiver
}

// goSymbol is an exported symbol without doc comment.
type goSymbol struct {
	name string // "Name" or "Type.Method"
	kind string // "function", "method", "type", "const" or "var"
	line int32
}

// goSource is a parsed file.
type goSource struct {
	file *ast.File
	set  *token.FileSet
}

// line of pos, not bent by //line directives.
func (s *goSource) line(pos token.Pos) int32 { return int32(s.set.PositionFor(pos, false).Line) }

const goMode = parser.ParseComments | parser.SkipObjectResolution

// scratch holds buffers (*[]byte) for emptied sources.
var scratch sync.Pool

// parseGo parses what documentation needs: declarations without what stands in
// braces. What it cannot tell for sure it leaves to a full parse. A syntax error
// inside of braces is not noticed; it does not touch documentation.
func parseGo(content []byte) (*goSource, error) {
	buf, ok := scratch.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer scratch.Put(buf)
	emptied, sound := blankBraces((*buf)[:0], content)
	*buf = emptied
	if sound {
		if src, err := parseFully(emptied); err == nil {
			return src, nil
		}
	}
	return parseFully(content)
}

// parseFully returns what it could parse even with an error.
func parseFully(content []byte) (*goSource, error) {
	src := &goSource{set: token.NewFileSet()}
	var err error
	src.file, err = parser.ParseFile(src.set, "", content, goMode)
	return src, err
}

// parseErrorLine is the line of the first syntax error.
func parseErrorLine(err error) (line int, message string) {
	var list scanner.ErrorList
	if errors.As(err, &list) && len(list) > 0 {
		return list[0].Pos.Line, list[0].Msg
	}
	return 0, err.Error()
}

// examineGo returns the facts of one file, or nil when it belongs to no
// package. When it does not parse, that is diagnosed and the facts hold the
// package clause at most.
func examineGo(src *detector.Source, set *settings) *goFile {
	parsed, err := parseGo(src.Content)
	if err != nil {
		line, message := parseErrorLine(err)
		src.Diagnose(line, "PARSE_ERROR", message)
	}
	f := parsed.file
	if f == nil || f.Name == nil || f.Name.Name == "_" {
		return &goFile{broken: err != nil}
	}
	if neverBuilt(f) {
		return &goFile{broken: err != nil}
	}
	facts := &goFile{
		pkg: f.Name.Name, clause: parsed.line(f.Package), documented: f.Doc.Text() != "", broken: err != nil,
	}
	if err == nil && facts.pkg != "main" {
		collector := &exportedCollector{src: parsed, facts: facts, privateReceivers: set.CheckPrivateReceivers}
		collector.collect()
	}
	return facts
}

// neverBuilt says whether a file is kept out of its package by the conventional
// "ignore" build tag, or is the pseudo-package of documentation.
func neverBuilt(f *ast.File) bool {
	if f.Name.Name == "documentation" {
		return true
	}
	for _, group := range f.Comments {
		if group.Pos() > f.Package {
			return false
		}
		for _, c := range group.List {
			if !constraint.IsGoBuild(c.Text) {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			if err != nil {
				continue
			}
			with := func(ignore bool) bool {
				return expr.Eval(func(tag string) bool { return tag != "ignore" || ignore })
			}
			return with(true) && !with(false)
		}
	}
	return false
}

// isGoSource says whether path is a Go file of some package: no test, and not
// among what the go command leaves out.
func isGoSource(f detector.File) bool {
	if !strings.HasSuffix(f.Path, ".go") || strings.HasSuffix(f.Path, "_test.go") || f.Testdata {
		return false
	}
	for i := range len(f.Path) {
		if (i == 0 || f.Path[i-1] == '/') && (f.Path[i] == '.' || f.Path[i] == '_') {
			return false
		}
	}
	return true
}
