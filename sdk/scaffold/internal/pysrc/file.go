package pysrc

import (
	"bytes"
	"slices"
	"strings"
)

// File is what is known of one source file.
type File struct {
	Src []byte
	// Doc is the module's first statement if it is a string.
	Doc Doc
	// Start is where the first statement's line begins; -1 where there is none.
	Start int
	Defs  []*Def
	// Indent is the step of the first indented block, or four spaces.
	Indent string
	// Quote is that of most docstrings, or three double quotes.
	Quote string
}

// Doc is a string that stands as the first statement of a body.
type Doc struct {
	// From and To are the offsets of the whole expression; both 0 for none.
	From, To int
	// Blank says that it holds nothing but white space.
	Blank bool
}

// Present says whether there is a docstring with text in it.
func (d Doc) Present() bool { return d.To > 0 && !d.Blank }

// Def is one class or function.
type Def struct {
	// Class tells a class from a function.
	Class, Async    bool
	Name, Qualified string
	Line            int
	Parent          *Def
	Decorators      []string // as written, without arguments
	Doc             Doc
	// Indent is the white space before the definition.
	Indent string
	// Colon is the offset after the header's colon.
	Colon int
	// Inline is the offset of the first statement where that is on the line of
	// the colon; otherwise -1, Body is where the next line begins, and
	// BodyIndent what stands before its statements.
	Inline     int
	Body       int
	BodyIndent string

	Parameters []Parameter
	// PositionalOnly says that some cannot be given by name.
	PositionalOnly bool
	Returns        string // the annotation
	Bases          []string
	// What the body holds, definitions within left out.
	Raises       []string
	Yields       bool
	ReturnsValue bool
	// Methods and Attributes are those of a class, private ones left out.
	Methods    []string
	Attributes []string

	column int
	waits  bool // for the first statement of its block
}

// Parameter is one parameter as written.
type Parameter struct {
	Name       string // with its stars
	Annotation string
	Default    string
}

// reader goes through logical lines.
type reader struct {
	*File
	open       []*Def // around the line, outermost first
	decorators []string
	quotes     map[string]int
}

// Parse reads src. It finds the errors that keep it from telling where
// definitions are, and leaves others to Python.
func Parse(src []byte) (*File, error) {
	all, err := tokens(src)
	if err != nil {
		return nil, err
	}
	r := &reader{File: &File{Src: src, Start: -1, Indent: "    ", Quote: `"""`}, quotes: make(map[string]int)}
	stepped := false
	for len(all) > 0 {
		end := slices.IndexFunc(all, func(t token) bool { return t.kind == newline })
		line := all[:end]
		all = all[end+1:]
		indent := r.indentOf(line[0])
		if !stepped && indent != "" && r.Start >= 0 {
			r.Indent, stepped = indent, true
		}
		if err := r.line(line, indent); err != nil {
			return nil, err
		}
	}
	for _, d := range r.open {
		if d.waits {
			return nil, &SyntaxError{d.Line, "the body of " + d.Name + " is missing"}
		}
	}
	if r.quotes["'''"] > r.quotes[`"""`] {
		r.Quote = "'''"
	}
	return r.File, nil
}

// indentOf is the white space before the first token of a line.
func (f *File) indentOf(t token) string {
	start := bytes.LastIndexByte(f.Src[:t.from], '\n') + 1
	return strings.TrimPrefix(string(f.Src[start:t.from]), "\ufeff")
}

// column is where indent ends, with tabs at every eighth.
func column(indent string) int {
	n := 0
	for _, c := range indent {
		switch c {
		case '\t':
			n = n/8*8 + 8
		case '\f':
			n = 0
		default:
			n++
		}
	}
	return n
}

func (f *File) text(t token) string { return string(f.Src[t.from:t.to]) }

func (f *File) span(ts []token) string {
	if len(ts) == 0 {
		return ""
	}
	return strings.Join(strings.Fields(string(f.Src[ts[0].from:ts[len(ts)-1].to])), " ")
}

// is says whether the n-th token is the word or operator s.
func (f *File) is(ts []token, n int, s string) bool {
	return n < len(ts) && ts[n].kind != text && f.text(ts[n]) == s
}

// line takes one logical line.
func (r *reader) line(ts []token, indent string) error {
	if strings.Trim(indent, " \t\f") != "" {
		return &SyntaxError{ts[0].line, "a statement begins after something else"}
	}
	col := column(indent)
	if err := r.closeTo(col, ts[0].line); err != nil {
		return err
	}
	if r.Start < 0 {
		r.Start = bytes.LastIndexByte(r.Src[:ts[0].from], '\n') + 1
		r.Doc = r.docstring(ts)
	}
	if n := len(r.open); n > 0 && r.open[n-1].waits {
		d := r.open[n-1]
		d.waits, d.BodyIndent = false, indent
		d.Doc = r.docstring(ts)
	}
	switch {
	case r.is(ts, 0, "@"):
		r.decorators = append(r.decorators, r.dotted(ts[1:]))
		return nil
	case r.is(ts, 0, "def"), r.is(ts, 0, "class") && len(ts) > 1, r.is(ts, 0, "async") && r.is(ts, 1, "def"):
		return r.define(ts, indent, col)
	}
	r.decorators = nil
	r.statements(ts)
	return nil
}

// closeTo ends the definitions whose bodies do not reach col.
func (r *reader) closeTo(col, line int) error {
	for n := len(r.open); n > 0 && r.open[n-1].column >= col; n-- {
		if r.open[n-1].waits {
			return &SyntaxError{line, "expected an indented block"}
		}
		r.open = r.open[:n-1]
	}
	return nil
}

// dotted is the name at the beginning of ts.
func (r *reader) dotted(ts []token) string {
	n := 0
	for n < len(ts) && (ts[n].kind == word || r.is(ts, n, ".")) {
		n++
	}
	return r.span(ts[:n])
}

// docstring is the expression that ts begins with if it is all strings.
func (r *reader) docstring(ts []token) Doc {
	n, brackets := 0, 0
	for r.is(ts, n, "(") {
		n++
		brackets++
	}
	from, blank := n, true
	for n < len(ts) && ts[n].kind == text && ts[n].plain {
		blank = blank && isBlank(r.text(ts[n]))
		n++
	}
	if n == from {
		return Doc{}
	}
	first := ts[from]
	for ; brackets > 0 && r.is(ts, n, ")"); brackets-- {
		n++
	}
	if brackets > 0 || n < len(ts) && !r.is(ts, n, ";") {
		return Doc{}
	}
	literal := strings.TrimLeft(r.text(first), "rRuU")
	if len(literal) >= 3 && r.quotes != nil {
		r.quotes[literal[:3]]++
	}
	return Doc{From: ts[0].from, To: ts[n-1].to, Blank: blank}
}

func isBlank(literal string) bool {
	literal = strings.TrimLeft(literal, "rRuU")
	return strings.TrimSpace(strings.Trim(literal, literal[:1])) == ""
}
