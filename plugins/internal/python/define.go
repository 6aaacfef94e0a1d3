package python

// decorator takes a line that begins with @.
func (o *outliner) decorator() {
	o.decorated = true
	o.prev = opening
	dotted, t := o.dotted(o.next())
	if t.kind == opening && o.src[t.start] == '(' {
		t = o.group(t)
	}
	if t.kind != newline {
		dotted = ""
	}
	if t = o.skip(t); t.kind != newline {
		o.broken(t.line, "a decorator is not followed by a definition")
		return
	}
	o.decorators = append(o.decorators, dotted)
}

// dotted takes a dotted name that begins with t, and returns it with the token
// that follows. It returns the empty string where there is none.
func (o *outliner) dotted(t token) (string, token) {
	if t.kind != name {
		return "", t
	}
	start, end := t.start, t.end
	for {
		t = o.next()
		if t.kind != dot {
			return o.compact(start, end), t
		}
		if t = o.next(); t.kind != name {
			return "", t
		}
		end = t.end
	}
}

// compact returns src[start:end], or nothing where it holds more than a dotted
// name.
func (o *outliner) compact(start, end int) string {
	for _, c := range o.src[start:end] {
		if class[c] != cName && class[c] != cDigit && c != '.' {
			return ""
		}
	}
	return string(o.src[start:end])
}

// definition takes a def or class after its keyword t; line is where it begins.
func (o *outliner) definition(top block, t token, line int) {
	o.note(top.owner, Other)
	// Any keyword-like name is a name here.
	id := o.next()
	if id.kind != name {
		o.broken(t.line, "expected a name")
		return
	}
	d := Def{
		Name: string(o.src[id.start:id.end]), Line: line, Parent: top.scope, TypeChecking: top.typeChecking,
		Decorators: o.decorators, Kind: Class,
	}
	o.decorators, o.decorated = nil, false
	d.Qualified = d.Name
	if top.scope >= 0 {
		parent := &o.file.Defs[top.scope]
		d.Qualified = parent.Qualified + "." + d.Name
		d.Nested = parent.Nested || parent.Kind != Class
	}
	if t.kind == kwDef {
		d.Kind = Function
		if top.scope >= 0 && o.file.Defs[top.scope].Kind == Class {
			d.Kind = Method
		}
	}
	next := o.next()
	if next.kind == opening && o.src[next.start] == '[' {
		next = o.group(next)
	}
	index := len(o.file.Defs)
	o.file.Defs = append(o.file.Defs, d)
	o.bodies = append(o.bodies, body{})
	b := block{owner: index, scope: index, typeChecking: top.typeChecking}
	opens := next.kind == opening && o.src[next.start] == '('
	switch {
	case t.kind == kwDef && opens:
		o.header(b)
	case t.kind == kwClass && opens:
		o.bases(&o.file.Defs[index])
		o.header(b)
	case t.kind == kwClass && next.kind == colon:
		o.suite(b)
	default:
		o.broken(t.line, "expected '(' or ':'")
	}
}

// group takes what a bracket t opens and returns the token after its end.
func (o *outliner) group(t token) token {
	for depth := len(o.brackets); t.kind != eof && len(o.brackets) >= depth; {
		t = o.next()
	}
	return o.next()
}

// bases takes the arguments of a class to the closing bracket.
func (o *outliner) bases(d *Def) {
	for t := o.next(); t.kind != eof && len(o.brackets) > 0; {
		double := t.kind == star && t.end-t.start == 2
		dotted, next := o.dotted(t)
		switch {
		case double: // more keywords
		case next.kind == assign:
			var value string
			if value, next = o.dotted(o.next()); dotted == "metaclass" && o.endsArgument(next) {
				d.Metaclass = value
			}
		default:
			if next.kind == opening && o.src[next.start] == '[' {
				next = o.group(next)
			}
			if !o.endsArgument(next) {
				dotted = ""
			}
			d.Bases = append(d.Bases, dotted)
		}
		for next.kind != eof && (next.kind != comma || len(o.brackets) > 1) && len(o.brackets) > 0 {
			next = o.next()
		}
		if next.kind != comma {
			return
		}
		t = o.next()
	}
}

// endsArgument says whether t ends an argument of a class.
func (o *outliner) endsArgument(t token) bool {
	return t.kind == comma && len(o.brackets) == 1 || t.kind == closing && len(o.brackets) == 0
}
