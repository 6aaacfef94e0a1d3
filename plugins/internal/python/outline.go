package python

import (
	"bytes"
	"errors"
)

// errDoubt says that the tokens alone do not tell.
var errDoubt = errors.New("the outline is in doubt")

// outliner reads logical lines and keeps the blocks that they open.
type outliner struct {
	lexer
	file   *File
	blocks []block
	bodies []body // of the file, then of each definition
	// decorators wait for their definition; decorated says that there are some.
	decorators []string
	decorated  bool
	// opened is the block whose header the last line was, when it waits for an
	// indented body.
	opened  block
	waiting bool
}

// block is a suite of statements.
type block struct {
	column, alt int // of its statements; alt with a tab as one column
	// owner is the definition that it is the body of, fileOwner for the module,
	// or nobody.
	owner int
	scope int // the innermost definition around its statements, or -1
	match bool
	// typeChecking says that it stands under `if TYPE_CHECKING`.
	typeChecking bool
	points       int // of the lexer where the body began
}

const (
	nobody    = -2
	fileOwner = -1
)

// body gathers what a suite consists of.
type body struct {
	statements int
	doc        Docstring
	shape      Shape
}

// outline returns what it found, or a [SyntaxError], or errDoubt.
func outline(src []byte) (*File, error) {
	if loneCarriageReturn(src) {
		return nil, errDoubt
	}
	o := &outliner{file: &File{}, bodies: make([]body, 1, 32)}
	o.src, o.line, o.last = src, 1, 1
	if bytes.HasPrefix(src, []byte("\xef\xbb\xbf")) {
		o.pos = 3
	}
	o.blocks = append(o.blocks, block{owner: fileOwner, scope: -1})
	for !o.doubt && o.indentation() {
		o.logicalLine()
	}
	if o.waiting || o.decorated {
		o.broken(o.last, "a body or a definition is missing at the end of the file")
	}
	if o.err != nil {
		return nil, o.err
	}
	if o.doubt {
		return nil, errDoubt
	}
	o.closeTo(0)
	module := o.bodies[0]
	o.file.Doc, o.file.Empty, o.file.Comments = module.doc, module.statements == 0, o.comments
	return o.file, nil
}

// loneCarriageReturn says whether src has line ends of an old Macintosh.
func loneCarriageReturn(src []byte) bool {
	for {
		i := bytes.IndexByte(src, '\r')
		if i < 0 {
			return false
		}
		if i+1 >= len(src) || src[i+1] != '\n' {
			return true
		}
		src = src[i+1:]
	}
}

// indentation skips to the next logical line and opens and closes blocks as its
// column says. It returns false at the end of the file.
func (o *outliner) indentation() bool {
	column, alt, ok := o.column()
	if !ok {
		return false
	}
	top := &o.blocks[len(o.blocks)-1]
	if o.waiting {
		if column <= top.column || alt <= top.alt {
			o.broken(o.line, "expected an indented block")
			return false
		}
		o.waiting = false
		o.opened.column, o.opened.alt = column, alt
		o.blocks = append(o.blocks, o.opened)
		return true
	}
	depth := len(o.blocks) - 1
	for o.blocks[depth].column > column {
		depth--
	}
	if o.blocks[depth].column != column || o.blocks[depth].alt != alt {
		o.broken(o.line, "the indentation matches no outer line")
		return false
	}
	o.closeTo(depth)
	return true
}

// column skips blank lines and comments and returns where the line begins.
func (o *outliner) column() (column, alt int, ok bool) {
	for o.pos < len(o.src) {
		switch c := o.src[o.pos]; c {
		case ' ':
			column++
			alt++
			o.pos++
		case '\t':
			column = column/8*8 + 8
			alt++
			o.pos++
		case '\f':
			column, alt = 0, 0
			o.pos++
		case '#':
			o.comment()
		case '\n', '\r':
			if c == '\n' {
				o.line++
			}
			column, alt = 0, 0
			o.pos++
		case '\\':
			o.fail()
			return 0, 0, false
		default:
			return column, alt, true
		}
	}
	return 0, 0, false
}

// closeTo ends the blocks above depth.
func (o *outliner) closeTo(depth int) {
	for len(o.blocks)-1 > depth {
		top := &o.blocks[len(o.blocks)-1]
		if top.owner >= 0 {
			o.finish(top.owner, top.points)
		}
		o.blocks = o.blocks[:len(o.blocks)-1]
	}
}

// finish completes a definition whose body has ended.
func (o *outliner) finish(def, points int) {
	d, b := &o.file.Defs[def], &o.bodies[def+1]
	d.EndLine, d.Doc, d.Body = o.last, b.doc, b.shape
	if b.doc.Line > 0 && b.statements == 1 {
		d.Body = OnlyDocstring
	}
	if d.Kind != Class {
		d.Complexity = 1 + o.points - points
	}
}

// logicalLine takes one statement with its header, or several joined by
// semicolons.
func (o *outliner) logicalLine() {
	o.prev = newline
	top := o.blocks[len(o.blocks)-1]
	t := o.next()
	switch {
	case top.match && !o.isWord(t, "case"):
		o.fail()
		return
	case o.decorated && t.kind != at && t.kind != kwAsync && t.kind != kwDef && t.kind != kwClass:
		o.broken(t.line, "a decorator is not followed by a definition")
		return
	}
	switch t.kind {
	case eof:
		o.fail()
	case at:
		o.decorator()
	case kwAsync:
		o.async(top, t)
	case kwDef, kwClass:
		o.definition(top, t, t.line)
	case kwIf, kwElif, kwElse, kwFor, kwWhile, kwTry, kwExcept, kwFinally, kwWith:
		o.compound(top, t)
	case name:
		switch {
		case top.match:
			o.points++
			o.prev = soft
			o.header(block{owner: nobody, scope: top.scope, typeChecking: top.typeChecking})
		case o.isWord(t, "match"):
			o.maybeMatch(top, t)
		default:
			o.simpleStatements(top.owner, t)
		}
	default:
		o.simpleStatements(top.owner, t)
	}
}

// isWord says whether t is the name text.
func (o *outliner) isWord(t token, text string) bool {
	return t.kind == name && string(o.src[t.start:t.end]) == text
}

// async takes what follows the keyword at the start of a line.
func (o *outliner) async(top block, t token) {
	switch next := o.next(); next.kind {
	case kwDef:
		o.definition(top, next, t.line)
		if !o.doubt { // it is the last, for a body on its line holds no other
			o.file.Defs[len(o.file.Defs)-1].Async = true
		}
	case kwFor, kwWith:
		o.compound(top, next)
	default:
		o.broken(next.line, "invalid syntax after async")
	}
}

// compound takes a header other than that of a definition. Its body belongs to
// no definition directly.
func (o *outliner) compound(top block, t token) {
	o.note(top.owner, Other)
	b := block{owner: nobody, scope: top.scope, typeChecking: top.typeChecking}
	if t.kind == kwIf && o.testsTypeChecking() {
		b.typeChecking = true
	}
	o.header(b)
}

// testsTypeChecking looks ahead for a header that is `if TYPE_CHECKING:` or
// `if typing.TYPE_CHECKING:`.
func (o *outliner) testsTypeChecking() bool {
	rest := o.src[o.pos:min(o.pos+64, len(o.src))]
	end := bytes.IndexByte(rest, ':')
	if end < 0 {
		return false
	}
	test := bytes.TrimSpace(rest[:end])
	before, ok := bytes.CutSuffix(test, []byte("TYPE_CHECKING"))
	if !ok {
		return false
	}
	module, dotted := bytes.CutSuffix(before, []byte("."))
	return len(before) == 0 || dotted && isName(module)
}

// isName says whether text is a single name.
func isName(text []byte) bool {
	for _, c := range text {
		if class[c] != cName && class[c] != cDigit {
			return false
		}
	}
	return len(text) > 0 && class[text[0]] == cName
}

// header takes the rest of a header to its colon, then the body that follows on
// the line, or lets b wait for the indented one.
func (o *outliner) header(b block) {
	for lambdas := 0; ; {
		switch t := o.next(); t.kind {
		case eof, newline, semicolon:
			o.broken(t.line, "expected ':'")
			return
		case kwLambda:
			if len(o.brackets) == 0 {
				lambdas++
			}
		case colon:
			if len(o.brackets) > 0 {
				continue
			}
			if lambdas > 0 {
				lambdas--
				continue
			}
			o.suite(b)
			return
		}
	}
}

// suite takes what follows the colon of a header.
func (o *outliner) suite(b block) {
	b.points = o.points
	o.prev = newline
	t := o.next()
	if t.kind == newline || t.kind == eof && !o.doubt {
		o.opened, o.waiting = b, true
		return
	}
	o.simpleStatements(b.owner, t)
	if b.owner >= 0 && !o.doubt {
		o.finish(b.owner, b.points)
	}
}

// maybeMatch takes a line that begins with the soft keyword: it is a match
// statement when it ends with a colon, for no other line does.
func (o *outliner) maybeMatch(top block, t token) {
	o.prev = soft
	points, ends := o.points, t
	for t := o.next(); t.kind != newline; t = o.next() {
		if t.kind == eof {
			if o.doubt {
				return
			}
			break
		}
		if t.kind == semicolon && len(o.brackets) == 0 {
			o.fail() // rare; let the grammar see
			return
		}
		ends = t
	}
	o.note(top.owner, Other)
	if ends.kind == colon {
		o.opened = block{owner: nobody, scope: top.scope, match: true, typeChecking: top.typeChecking, points: points}
		o.waiting = true
	}
}

// simpleStatements takes statements to the end of the line; t is the first
// token of the first.
func (o *outliner) simpleStatements(owner int, t token) {
	for {
		last := o.simpleStatement(owner, t)
		if last == newline || o.doubt || last == eof {
			return
		}
		o.prev = newline
		t = o.next() // after a semicolon
		if t.kind == newline || t.kind == eof {
			return
		}
	}
}

// simpleStatement takes one statement that begins with t and returns what ended
// it.
func (o *outliner) simpleStatement(owner int, t token) kind {
	var shape Shape
	switch {
	case t.kind.cannotStart(), t.kind >= kwIf && t.kind <= kwAsync, t.kind == kwIn, t.kind == kwIs, t.kind == at:
		return o.broken(t.line, "invalid syntax").kind
	case t.kind == kwPass:
		shape = OnlyPass
	case t.kind == ellipsis:
		shape = OnlyEllipsis
	case t.kind == kwRaise:
		return o.raise(owner)
	case t.kind == str:
		return o.expression(owner, t)
	case t.kind == opening:
		return o.parenthesised(owner, t)
	case o.isWord(t, "type"):
		o.prev = soft
	}
	next := o.next()
	if next.kind != newline && next.kind != semicolon && next.kind != eof {
		shape = Other
		next = o.skip(next)
	}
	o.note(owner, shape)
	return next.kind
}

// skip returns the token that ends the statement in which t stands.
func (o *outliner) skip(t token) token {
	for t.kind != newline && t.kind != eof && (t.kind != semicolon || len(o.brackets) > 0) {
		t = o.next()
	}
	return t
}

// expression takes a statement that begins with a string: a docstring when it
// is first in its body and nothing but strings follow.
func (o *outliner) expression(owner int, first token) kind {
	doc := first
	t := o.next()
	for t.kind == str {
		doc.end = t.end
		t = o.next()
	}
	whole := t.kind == newline || t.kind == semicolon || t.kind == eof
	if whole {
		o.noteString(owner, doc)
		return t.kind
	}
	t = o.skip(t)
	o.note(owner, Other)
	return t.kind
}

// parenthesised takes a statement that begins with a bracket. A docstring may
// stand in one; that is rare enough to leave it to the grammar.
func (o *outliner) parenthesised(owner int, t token) kind {
	round := o.src[t.start] == '('
	for t.kind == opening {
		t = o.next()
	}
	if b := o.bodyOf(owner); b != nil && b.statements == 0 && round && t.kind == str {
		return o.fail().kind
	}
	t = o.skip(t)
	o.note(owner, Other)
	return t.kind
}

// raise takes a raise statement after its keyword.
func (o *outliner) raise(owner int) kind {
	t, depth := o.next(), 0
	for ; t.kind == opening && o.src[t.start] == '('; depth++ {
		t = o.next()
	}
	shape := Other
	if o.isWord(t, "NotImplementedError") {
		if t = o.next(); t.kind == opening && o.src[t.start] == '(' {
			t = o.group(t)
		}
		for ; t.kind == closing && depth > 0; depth-- {
			t = o.next()
		}
		if depth == 0 && (t.kind == newline || t.kind == semicolon || t.kind == eof) {
			shape = OnlyNotImplemented
		}
	}
	t = o.skip(t)
	o.note(owner, shape)
	return t.kind
}

// bodyOf returns the body of an owner, or nil.
func (o *outliner) bodyOf(owner int) *body {
	if owner == nobody {
		return nil
	}
	return &o.bodies[owner+1]
}

// note counts a statement in the body of owner.
func (o *outliner) note(owner int, shape Shape) {
	b := o.bodyOf(owner)
	if b == nil {
		return
	}
	b.statements++
	first := b.statements == 1 || b.statements == 2 && b.doc.Line > 0
	if first {
		b.shape = shape
	} else {
		b.shape = Other
	}
}

// noteString counts a statement that is a string.
func (o *outliner) noteString(owner int, t token) {
	b := o.bodyOf(owner)
	if b == nil {
		return
	}
	if b.statements > 0 {
		o.note(owner, Other)
		return
	}
	b.statements = 1
	b.doc = Docstring{Line: t.line, EndLine: o.last, Blank: isBlank(o.src[t.start:t.end])}
}
