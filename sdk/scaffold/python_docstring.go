package scaffold

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/sop-host/sop/sdk/scaffold/internal/pysrc"
)

// PythonSymbol is what is known of a module, class, function or method.
type PythonSymbol struct {
	Name string
	// Kind is "module", "package", "class", "function", "method" or "property".
	Kind  string
	Async bool
	// Parameters leave out the object or class that a method is called on.
	Parameters []PythonParameter
	// Returns is the annotation, or "" where there is none.
	Returns string
	// ReturnsValue says that some return statement has a value; Yields that it
	// is a generator.
	ReturnsValue, Yields bool
	// Raises are the exceptions that the body raises by name.
	Raises []string
	// Bases, Methods and Attributes are those of a class without leading
	// underscore.
	Bases, Methods, Attributes []string
	// Classes and Functions are the public ones of a module.
	Classes, Functions []string
}

// PythonParameter is one parameter as written.
type PythonParameter struct {
	// Name has its stars.
	Name, Annotation string
	// Default is as written, and empty where there is none or it is too long to
	// quote; Optional says that there is one.
	Default  string
	Optional bool
}

func pythonParses(content []byte) error {
	_, err := pysrc.Parse(content)
	return err
}

func (j *job) parsedPython(name string) (*pysrc.File, error) {
	content, err := j.read(name)
	if err != nil {
		return nil, err
	}
	f, err := pysrc.Parse(content)
	if err != nil {
		return nil, refuse("%s does not parse: %v", name, err)
	}
	return f, nil
}

// pythonDocstring puts a docstring into a module, class or function.
func pythonDocstring(j *job) ([]Change, error) {
	f, err := j.parsedPython(j.Gap.Path)
	if err != nil {
		return nil, err
	}
	data := j.data()
	width := j.number("width", 79)
	var after []byte
	if j.Gap.Rule == "docs.python.module" || j.Gap.Rule == "" && j.Gap.Symbol == "" {
		switch {
		case f.Doc.Present():
			return nil, ErrNothing
		case f.Start < 0:
			return nil, refuse("%s holds no statement", j.Gap.Path)
		}
		data.Python = describeModule(f, j.Gap.Path)
		text, err := j.render(data)
		if err != nil {
			return nil, err
		}
		after, err = documentModule(f, text, width)
		if err != nil {
			return nil, err
		}
	} else {
		d, err := findPython(f, j.Gap)
		if err != nil {
			return nil, err
		}
		j.line = d.Line
		data.Python = describePython(d)
		text, err := j.render(data)
		if err != nil {
			return nil, err
		}
		after, err = documentPython(f, d, text, width)
		if err != nil {
			return nil, err
		}
	}
	if err := sameDefinitions(f, after); err != nil {
		return nil, err
	}
	return []Change{{Path: j.Gap.Path, Before: f.Src, Content: after}}, nil
}

// sameDefinitions refuses a result in which other things are defined.
func sameDefinitions(f *pysrc.File, after []byte) error {
	g, err := pysrc.Parse(after)
	if err != nil {
		return refuse("the result would not parse: %v", err)
	}
	same := slices.EqualFunc(f.Defs, g.Defs, func(a, b *pysrc.Def) bool {
		return a.Qualified == b.Qualified && slices.Equal(a.Parameters, b.Parameters) && a.ReturnsValue == b.ReturnsValue && slices.Equal(a.Raises, b.Raises)
	})
	if !same {
		return refuse("the result would define other things")
	}
	return nil
}

// findPython looks for the definition that a gap names: of several with one
// name for the one on its line, or else for the nearest without docstring.
func findPython(f *pysrc.File, gap Gap) (*pysrc.Def, error) {
	var found *pysrc.Def
	known := false
	for _, d := range f.Defs {
		if gap.Symbol != "" && d.Qualified != gap.Symbol || gap.Symbol == "" && d.Line != gap.Line {
			continue
		}
		known = true
		open := !d.Doc.Present() && !isExempt(d)
		if d.Line == gap.Line && !isExempt(d) {
			if open {
				return d, nil
			}
			return nil, ErrNothing
		}
		if open && (found == nil || away(d.Line, gap.Line) < away(found.Line, gap.Line)) {
			found = d
		}
	}
	switch {
	case found != nil:
		return found, nil
	case known:
		return nil, ErrNothing
	}
	return nil, refuse("%s defines no %s", gap.Path, orLine(gap))
}

// away is how many lines lie between.
func away(a, b int) int { return max(a-b, b-a) }

// isExempt says whether a decorator makes d part of something that is
// documented elsewhere.
func isExempt(d *pysrc.Def) bool {
	return slices.ContainsFunc(d.Decorators, func(name string) bool {
		last := name[strings.LastIndexByte(name, '.')+1:]
		return last == "overload" || last == "override" || name == d.Name+".setter" || name == d.Name+".deleter"
	})
}

func describePython(d *pysrc.Def) *PythonSymbol {
	s := &PythonSymbol{
		Name: d.Name, Kind: "function", Async: d.Async, ReturnsValue: d.ReturnsValue, Yields: d.Yields, Raises: d.Raises,
		Methods: d.Methods, Attributes: d.Attributes,
	}
	for _, b := range d.Bases {
		if b != "object" {
			s.Bases = append(s.Bases, b)
		}
	}
	switch {
	case d.Class:
		s.Kind = "class"
		return s
	case d.Parent != nil && d.Parent.Class:
		s.Kind = "method"
		if slices.ContainsFunc(d.Decorators, func(name string) bool { return strings.HasSuffix(name, "property") }) {
			s.Kind = "property"
		}
	}
	if quotable(d.Returns) {
		s.Returns = strings.Trim(d.Returns, `"'`)
	}
	for _, p := range d.Bound() {
		q := PythonParameter{Name: p.Name, Optional: p.Default != ""}
		if quotable(p.Annotation) {
			q.Annotation = unbroken(strings.Trim(p.Annotation, `"'`))
		}
		if quotable(p.Default) {
			q.Default = unbroken(p.Default)
		}
		s.Parameters = append(s.Parameters, q)
	}
	return s
}

// quotable says whether source can stand in a docstring as it is.
func quotable(source string) bool {
	return source != "" && len(source) <= maxType && !strings.ContainsAny(source, "\\\n#\u00a0") &&
		!strings.Contains(source, `"""`) && !strings.Contains(source, "'''")
}

func describeModule(f *pysrc.File, name string) *PythonSymbol {
	s := &PythonSymbol{Kind: "module", Name: strings.TrimSuffix(path.Base(name), path.Ext(name))}
	if dir := path.Dir(name); s.Name == "__init__" && dir != "." {
		s.Name, s.Kind = path.Base(dir), "package"
	}
	for _, d := range f.Defs {
		switch {
		case d.Parent != nil || strings.HasPrefix(d.Name, "_"):
		case d.Class:
			s.Classes = append(s.Classes, d.Name)
		case !slices.Contains(s.Functions, d.Name):
			s.Functions = append(s.Functions, d.Name)
		}
	}
	return s
}

// docstring lays text out as a literal whose lines after the first begin with
// indent.
func docstring(f *pysrc.File, text, indent string, width int) (string, error) {
	if strings.Contains(text, "\\") || strings.Contains(text, f.Quote) {
		return "", refuse("the text cannot stand in a docstring as it is")
	}
	var out []string
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t")
		own := line[:len(line)-len(strings.TrimLeft(line, " "))]
		hanging := own
		if own != "" {
			hanging += "    "
		}
		filled := fill(line, own, hanging, max(width-len(indent), 40))
		if len(filled) == 0 && len(out) > 0 && out[len(out)-1] == "" {
			continue // one empty line is enough
		}
		if len(filled) == 0 {
			filled = []string{""}
		}
		out = append(out, filled...)
	}
	eol := lineEnd(f.Src)
	if len(out) == 1 && len(indent)+len(out[0])+2*len(f.Quote) <= width && !strings.HasSuffix(out[0], f.Quote[:1]) {
		return f.Quote + out[0] + f.Quote, nil
	}
	var b strings.Builder
	b.WriteString(f.Quote + out[0])
	for _, line := range out[1:] {
		b.WriteString(eol)
		if line != "" {
			b.WriteString(indent + line)
		}
	}
	b.WriteString(eol + indent + f.Quote)
	return b.String(), nil
}

// documentPython returns the source with a docstring for d.
func documentPython(f *pysrc.File, d *pysrc.Def, text string, width int) ([]byte, error) {
	eol := lineEnd(f.Src)
	indent := d.BodyIndent
	if d.Inline >= 0 {
		step := f.Indent
		if strings.HasPrefix(d.Indent, "\t") {
			step = "\t"
		}
		indent = d.Indent + step
	}
	literal, err := docstring(f, text, indent, width)
	if err != nil {
		return nil, err
	}
	switch {
	case d.Doc.To > 0: // there is one that says nothing
		return splice(f.Src, d.Doc.From, d.Doc.To, literal), nil
	case d.Inline >= 0:
		return splice(f.Src, d.Colon, d.Inline, eol+indent+literal+eol+indent), nil
	}
	return splice(f.Src, d.Body, d.Body, indent+literal+eol), nil
}

// documentModule returns the source with a docstring for the module: after the
// comments that the file begins with, for these are the interpreter's, the
// encoding's and the licence's.
func documentModule(f *pysrc.File, text string, width int) ([]byte, error) {
	literal, err := docstring(f, text, "", width)
	if err != nil {
		return nil, err
	}
	if f.Doc.To > 0 {
		return splice(f.Src, f.Doc.From, f.Doc.To, literal), nil
	}
	eol := lineEnd(f.Src)
	at := 0
	if bytes.HasPrefix(f.Src, bom) {
		at = len(bom)
	}
	top := at
	for at < f.Start {
		end := bytes.IndexByte(f.Src[at:], '\n')
		if end < 0 || f.Src[at] != '#' {
			break
		}
		at += end + 1
	}
	if at > top {
		literal = eol + literal
	}
	literal += eol
	if end := bytes.IndexByte(f.Src[at:], '\n'); end < 0 || !isSpace(f.Src[at:at+end]) {
		literal += eol
	}
	return splice(f.Src, at, at, literal), nil
}
