package python

import (
	"bytes"
	"strings"

	sitter "github.com/odvcencio/gotreesitter"
)

// symbol is what a kind of node means here.
type symbol uint8

const (
	sPlain symbol = iota
	sPoint        // a leaf that is a decision
	sComment
	sFunction
	sClass
	sIf
)

// symbolsOf makes the table of a language's symbols.
func symbolsOf(lang *sitter.Language) []symbol {
	table := make([]symbol, len(lang.SymbolNames))
	for i, n := range lang.SymbolNames {
		named := i < len(lang.SymbolMetadata) && lang.SymbolMetadata[i].Named
		switch n {
		case "if", "elif", "for", "while", "except", "except*", "and", "or", "case":
			if !named {
				table[i] = sPoint
			}
		case "comment":
			table[i] = sComment
		case "function_definition":
			table[i] = sFunction
		case "class_definition":
			table[i] = sClass
		case "if_statement":
			table[i] = sIf
		}
	}
	return table
}

// walker reads a tree once.
type walker struct {
	*grammar
	src    []byte
	tree   *sitter.Tree
	file   *File
	points int
	last   int // line on which the last leaf that is no comment ended
	open   []scope
	// guarded are the blocks around the cursor that stand under
	// `if TYPE_CHECKING`, after those that are to come.
	guarded []*sitter.Node
	inside  int
}

// scope is a definition around the cursor.
type scope struct {
	node, body *sitter.Node
	def        int
	points     int
}

// walk visits every node beneath root.
func (w *walker) walk(root *sitter.Node) {
	w.module(root)
	c := sitter.NewTreeCursor(root, w.tree)
	for {
		w.enter(c.CurrentNode())
		if c.GotoFirstChild() {
			continue
		}
		w.leaf(c.CurrentNode())
		for !c.GotoNextSibling() {
			if !c.GotoParent() {
				return
			}
			w.leave(c.CurrentNode())
		}
	}
}

func (w *walker) symbol(n *sitter.Node) symbol {
	if s := int(n.Symbol()); s < len(w.symbols) {
		return w.symbols[s]
	}
	return sPlain
}

// module reads the statements of the file.
func (w *walker) module(root *sitter.Node) {
	b := w.body(root)
	w.file.Doc, w.file.Empty = b.doc, b.statements == 0
}

// enter is called for every node before its children.
func (w *walker) enter(n *sitter.Node) {
	switch w.symbol(n) {
	case sPoint:
		w.points++
	case sComment:
		w.comment(n)
	case sFunction, sClass:
		w.define(n)
	case sIf:
		w.guard(n)
	}
	if k := len(w.open); k > 0 && w.open[k-1].body == n {
		w.open[k-1].points = w.points
	}
	if k := len(w.guarded); w.inside < k && w.guarded[k-1] == n {
		w.inside = k
	}
}

// leaf is called for every node without children.
func (w *walker) leaf(n *sitter.Node) {
	if w.symbol(n) != sComment && n.EndByte() > n.StartByte() {
		w.last = int(n.EndPoint().Row) + 1
	}
}

// leave is called for every node with children, after them.
func (w *walker) leave(n *sitter.Node) {
	if k := len(w.open); k > 0 && w.open[k-1].node == n {
		s := w.open[k-1]
		w.open = w.open[:k-1]
		d := &w.file.Defs[s.def]
		d.EndLine = w.last
		if d.Kind != Class {
			d.Complexity = 1 + w.points - s.points
		}
	}
	if k := len(w.guarded); k > 0 && w.guarded[k-1] == n {
		w.guarded = w.guarded[:k-1]
		w.inside = min(w.inside, k-1)
	}
}

func (w *walker) comment(n *sitter.Node) {
	text := bytes.TrimRight(w.text(n), "\r")
	start := int(n.StartByte())
	w.file.Comments = append(w.file.Comments, Comment{
		Line: int(n.StartPoint().Row) + 1, Start: start, End: start + len(text),
	})
}

// guard notes the body of an `if TYPE_CHECKING`.
func (w *walker) guard(n *sitter.Node) {
	condition, body := w.field(n, "condition"), w.field(n, "consequence")
	if condition == nil || body == nil {
		return
	}
	before, ok := bytes.CutSuffix(w.text(condition), []byte("TYPE_CHECKING"))
	if !ok {
		return
	}
	module, dotted := bytes.CutSuffix(before, []byte("."))
	if len(before) == 0 || dotted && isName(module) {
		w.guarded = append(w.guarded, body)
	}
}

// define notes a definition and makes it the scope of what is beneath it.
func (w *walker) define(n *sitter.Node) {
	id := w.field(n, "name")
	d := Def{Kind: Class, Parent: -1, Line: int(n.StartPoint().Row) + 1, TypeChecking: w.inside > 0}
	d.Name = string(w.text(id))
	d.Qualified = d.Name
	if k := len(w.open); k > 0 {
		d.Parent = w.open[k-1].def
		parent := &w.file.Defs[d.Parent]
		d.Qualified = parent.Qualified + "." + d.Name
		d.Nested = parent.Nested || parent.Kind != Class
	}
	if w.symbol(n) == sFunction {
		d.Kind = Function
		if d.Parent >= 0 && w.file.Defs[d.Parent].Kind == Class {
			d.Kind = Method
		}
		first := n.Child(0)
		d.Async = first != nil && string(w.text(first)) == "async"
	} else {
		w.bases(n, &d)
	}
	d.Decorators = w.decorators(n)
	body := w.field(n, "body")
	b := w.body(body)
	d.Doc, d.Body = b.doc, b.shape
	if b.doc.Line > 0 && b.statements == 1 {
		d.Body = OnlyDocstring
	}
	w.open = append(w.open, scope{node: n, body: body, def: len(w.file.Defs), points: w.points})
	w.file.Defs = append(w.file.Defs, d)
}

// bases reads the arguments of a class.
func (w *walker) bases(n *sitter.Node, d *Def) {
	arguments := w.field(n, "superclasses")
	if arguments == nil {
		return
	}
	for i := range arguments.NamedChildCount() {
		a := arguments.NamedChild(i)
		switch a.Type(w.language) {
		case "comment", "dictionary_splat":
		case "keyword_argument":
			if string(w.text(w.field(a, "name"))) == "metaclass" {
				d.Metaclass = w.dotted(w.field(a, "value"))
			}
		case "subscript":
			d.Bases = append(d.Bases, w.dotted(w.field(a, "value")))
		default:
			d.Bases = append(d.Bases, w.dotted(a))
		}
	}
}

// decorators reads those of a definition.
func (w *walker) decorators(n *sitter.Node) []string {
	parent := n.Parent()
	if parent == nil || parent.Type(w.language) != "decorated_definition" {
		return nil
	}
	var out []string
	for i := range parent.NamedChildCount() {
		c := parent.NamedChild(i)
		if c.Type(w.language) != "decorator" {
			continue
		}
		e := c.NamedChild(0)
		if e != nil && e.Type(w.language) == "call" {
			e = w.field(e, "function")
		}
		out = append(out, w.dotted(e))
	}
	return out
}

// dotted returns the text of an identifier or an attribute of one.
func (w *walker) dotted(n *sitter.Node) string {
	if n == nil {
		return ""
	}
	text := string(w.text(n))
	for part := range strings.SplitSeq(text, ".") {
		if !isName([]byte(part)) {
			return ""
		}
	}
	if keyword([]byte(text)) != name {
		return ""
	}
	return text
}

// body reads the statements of a block.
func (w *walker) body(block *sitter.Node) body {
	var b body
	if block == nil {
		return b
	}
	for i := range block.NamedChildCount() {
		n := block.NamedChild(i)
		if w.symbol(n) == sComment {
			continue
		}
		b.statements++
		if doc, ok := w.docstring(n); ok && b.statements == 1 {
			b.doc = doc
			continue
		}
		if b.statements == 1 || b.statements == 2 && b.doc.Line > 0 {
			b.shape = w.shape(n)
		} else {
			b.shape = Other
		}
	}
	return b
}

// docstring returns the place of n if it is a statement that is a string.
func (w *walker) docstring(n *sitter.Node) (Docstring, bool) {
	if n.Type(w.language) == "expression_statement" {
		if n.NamedChildCount() != 1 || n.ChildCount() != 1 {
			return Docstring{}, false
		}
		n = n.NamedChild(0)
	}
	for n != nil && n.Type(w.language) == "parenthesized_expression" {
		n = n.NamedChild(0)
	}
	if n == nil {
		return Docstring{}, false
	}
	text := w.text(n)
	switch n.Type(w.language) {
	case "string":
		if !isPlain(text) {
			return Docstring{}, false
		}
	case "concatenated_string":
		for i := range n.NamedChildCount() {
			c := n.NamedChild(i)
			if c.Type(w.language) == "string" && !isPlain(w.text(c)) {
				return Docstring{}, false
			}
		}
	default:
		return Docstring{}, false
	}
	return Docstring{Line: int(n.StartPoint().Row) + 1, EndLine: int(n.EndPoint().Row) + 1, Blank: isBlank(text)}, true
}

// isPlain says whether a literal is neither bytes nor formatted.
func isPlain(literal []byte) bool {
	quote := bytes.IndexAny(literal, "'\"")
	return quote >= 0 && !bytes.ContainsAny(literal[:quote], "bBfFtT")
}

// shape says what a statement is, alone in a body.
func (w *walker) shape(n *sitter.Node) Shape {
	switch n.Type(w.language) {
	case "pass_statement":
		return OnlyPass
	case "expression_statement":
		if n.ChildCount() == 1 && string(w.text(n)) == "..." {
			return OnlyEllipsis
		}
	case "ellipsis":
		return OnlyEllipsis
	case "raise_statement":
		if n.NamedChildCount() != 1 {
			return Other
		}
		e := n.NamedChild(0)
		for e != nil && e.Type(w.language) == "parenthesized_expression" {
			e = e.NamedChild(0)
		}
		if e != nil && e.Type(w.language) == "call" {
			e = w.field(e, "function")
		}
		if e != nil && string(w.text(e)) == "NotImplementedError" {
			return OnlyNotImplemented
		}
	}
	return Other
}

func (w *walker) text(n *sitter.Node) []byte {
	if n == nil {
		return nil
	}
	return w.src[n.StartByte():n.EndByte()]
}

func (w *walker) field(n *sitter.Node, field string) *sitter.Node {
	return n.ChildByFieldName(field, w.language)
}
