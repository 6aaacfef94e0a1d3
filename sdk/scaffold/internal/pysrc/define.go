package pysrc

import (
	"bytes"
	"slices"
	"strings"
)

// define takes the line of a definition.
func (r *reader) define(ts []token, indent string, col int) error {
	d := &Def{Line: ts[0].line, Indent: indent, column: col, Decorators: r.decorators, Inline: -1}
	r.decorators = nil
	n := 1
	switch {
	case r.is(ts, 0, "class"):
		d.Class = true
	case r.is(ts, 0, "async"):
		d.Async, n = true, 2
	}
	if n >= len(ts) || ts[n].kind != word {
		return &SyntaxError{d.Line, "expected a name"}
	}
	d.Name = r.text(ts[n])
	d.Qualified = d.Name
	if k := len(r.open); k > 0 {
		d.Parent = r.open[k-1]
		d.Qualified = d.Parent.Qualified + "." + d.Name
		d.Parent.member(d)
	}
	n++
	if r.is(ts, n, "[") {
		n = r.group(ts, n)
	}
	if r.is(ts, n, "(") {
		end := r.group(ts, n)
		r.arguments(d, ts[n+1:end-1])
		n = end
	} else if !d.Class {
		return &SyntaxError{d.Line, "expected '('"}
	}
	from := n
	for lambdas := 0; ; n++ {
		switch {
		case n >= len(ts):
			return &SyntaxError{d.Line, "expected ':'"}
		case r.is(ts, n, "(") || r.is(ts, n, "[") || r.is(ts, n, "{"):
			n = r.group(ts, n) - 1
			continue
		case r.is(ts, n, "lambda"):
			lambdas++
			continue
		case !r.is(ts, n, ":"):
			continue
		case lambdas > 0:
			lambdas--
			continue
		}
		break
	}
	if r.is(ts, from, "->") {
		d.Returns = r.span(ts[from+1 : n])
	} else if n != from {
		return &SyntaxError{d.Line, "expected ':'"}
	}
	return r.begin(d, ts, n)
}

// begin takes what follows the colon, which is ts[n].
func (r *reader) begin(d *Def, ts []token, n int) error {
	r.Defs = append(r.Defs, d)
	d.Colon = ts[n].to
	r.open = append(r.open, d)
	if n+1 < len(ts) {
		d.Inline = ts[n+1].from
		d.Doc = r.docstring(ts[n+1:])
		r.statements(ts[n+1:])
		r.open = r.open[:len(r.open)-1]
		return nil
	}
	d.waits = true
	if i := bytes.IndexByte(r.Src[d.Colon:], '\n'); i >= 0 {
		d.Body = d.Colon + i + 1
		return nil
	}
	return &SyntaxError{d.Line, "the body of " + d.Name + " is missing"}
}

// group returns the index after the bracket that closes ts[n].
func (r *reader) group(ts []token, n int) int {
	depth := 0
	for ; n < len(ts); n++ {
		switch {
		case r.is(ts, n, "(") || r.is(ts, n, "[") || r.is(ts, n, "{"):
			depth++
		case r.is(ts, n, ")") || r.is(ts, n, "]") || r.is(ts, n, "}"):
			if depth--; depth == 0 {
				return n + 1
			}
		}
	}
	return n
}

// arguments reads what stands in the brackets of a header.
func (r *reader) arguments(d *Def, ts []token) {
	for len(ts) > 0 {
		n := 0
		for n < len(ts) && !r.is(ts, n, ",") {
			if r.is(ts, n, "(") || r.is(ts, n, "[") || r.is(ts, n, "{") {
				n = r.group(ts, n)
				continue
			}
			if r.is(ts, n, "lambda") { // its commas are not ours
				for n < len(ts) && !r.is(ts, n, ":") {
					n++
				}
				continue
			}
			n++
		}
		r.argument(d, ts[:n])
		ts = ts[min(n+1, len(ts)):]
	}
}

func (r *reader) argument(d *Def, ts []token) {
	if len(ts) == 0 || len(ts) == 1 && ts[0].kind != word {
		if r.is(ts, 0, "/") {
			d.PositionalOnly = true
		}
		return
	}
	if d.Class {
		if name := r.dotted(ts); name != "" && !r.is(ts, 1, "=") {
			d.Bases = append(d.Bases, name)
		}
		return
	}
	var p Parameter
	n := 0
	if ts[0].kind == operator {
		p.Name, n = r.text(ts[0]), 1
	}
	if n >= len(ts) {
		return
	}
	p.Name += r.text(ts[n])
	equals := n
	for equals < len(ts) && !r.is(ts, equals, "=") {
		if r.is(ts, equals, "(") || r.is(ts, equals, "[") || r.is(ts, equals, "{") {
			equals = r.group(ts, equals)
			continue
		}
		equals++
	}
	if equals < len(ts) {
		p.Default = r.span(ts[equals+1:])
	}
	if r.is(ts, n+1, ":") && n+2 <= equals {
		p.Annotation = r.span(ts[n+2 : equals])
	}
	d.Parameters = append(d.Parameters, p)
}

// Bound are the parameters that a caller gives: those of a method without the
// object or class that it is called on.
func (d *Def) Bound() []Parameter {
	if d.Parent == nil || !d.Parent.Class || len(d.Parameters) == 0 || slices.Contains(d.Decorators, "staticmethod") || strings.HasPrefix(d.Parameters[0].Name, "*") {
		return d.Parameters
	}
	return d.Parameters[1:]
}

// member notes a definition directly in a class.
func (d *Def) member(m *Def) {
	if d.Class && !m.Class && !strings.HasPrefix(m.Name, "_") && !slices.Contains(d.Methods, m.Name) {
		d.Methods = append(d.Methods, m.Name)
	}
}

// statements notes what a line that defines nothing does in the innermost
// definition.
func (r *reader) statements(ts []token) {
	if len(r.open) == 0 {
		return
	}
	d := r.open[len(r.open)-1]
	if d.Class {
		if len(ts) > 1 && ts[0].kind == word && (r.is(ts, 1, "=") || r.is(ts, 1, ":")) && r.indentOf(ts[0]) == d.BodyIndent {
			if name := r.text(ts[0]); !strings.HasPrefix(name, "_") && !slices.Contains(d.Attributes, name) && !keyword[name] {
				d.Attributes = append(d.Attributes, name)
			}
		}
		return
	}
	for n := range ts {
		if ts[n].kind != word {
			continue
		}
		switch r.text(ts[n]) {
		case "raise":
			r.raise(d, ts[n+1:])
		case "yield":
			d.Yields = true
		case "return":
			none := r.is(ts, n+1, "None") && n+2 == len(ts)
			if n+1 < len(ts) && !r.is(ts, n+1, ";") && !none {
				d.ReturnsValue = true
			}
		}
	}
}

// keyword are words that may stand before a colon at the beginning of a line.
var keyword = map[string]bool{"else": true, "try": true, "finally": true, "except": true, "lambda": true}

// raise notes the class that is raised, if it is named as classes are.
func (r *reader) raise(d *Def, ts []token) {
	name := r.dotted(ts)
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last == "" || last[0] < 'A' || last[0] > 'Z' || slices.Contains(d.Raises, name) {
		return
	}
	d.Raises = append(d.Raises, name)
}
