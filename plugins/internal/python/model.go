package python

import (
	"fmt"
	"sort"
)

// File is what is known of one source file.
type File struct {
	// Doc is the module's docstring.
	Doc Docstring
	// Defs are in the order of their first lines; an enclosing definition
	// stands before what it encloses.
	Defs []Def
	// Comments are in order.
	Comments []Comment
	// Empty says that the file holds no statement.
	Empty bool
}

// Docstring is the place of a docstring; the zero value means that there is
// none.
type Docstring struct {
	Line, EndLine int
	// Blank says that it holds nothing but white space.
	Blank bool
}

// Present says whether there is a docstring with text in it.
func (d Docstring) Present() bool { return d.Line > 0 && !d.Blank }

// Kind is the kind of a definition.
type Kind uint8

// The kinds. A method is a function directly in a class.
const (
	Class Kind = iota + 1
	Function
	Method
)

// String returns the kind as people call it.
func (k Kind) String() string {
	return [...]string{"definition", "class", "function", "method"}[k]
}

// Shape says what a body consists of, its docstring aside.
type Shape uint8

// The shapes.
const (
	// Other is a body that does something.
	Other Shape = iota
	// OnlyPass is `pass`.
	OnlyPass
	// OnlyEllipsis is `...`.
	OnlyEllipsis
	// OnlyDocstring is nothing beside the docstring.
	OnlyDocstring
	// OnlyNotImplemented is `raise NotImplementedError`, with or without
	// arguments.
	OnlyNotImplemented
)

// Def is one class, function or method.
type Def struct {
	Kind Kind
	Name string
	// Qualified joins the names of the enclosing definitions and Name by dots.
	Qualified string
	// Line is that of `def`, `async` or `class`, after any decorators; EndLine
	// is the last of the body.
	Line, EndLine int
	Async         bool
	// Nested says that a function encloses it, at any distance.
	Nested bool
	// TypeChecking says that it stands under `if TYPE_CHECKING`.
	TypeChecking bool
	// Parent is the index of the enclosing definition, or -1.
	Parent int
	// Decorators are dotted names without arguments; one that is no dotted name
	// is the empty string.
	Decorators []string
	// Bases are the dotted names of a class's bases without subscripts; a base
	// that is no dotted name is the empty string.
	Bases []string
	// Metaclass is the dotted name given as `metaclass=`.
	Metaclass string
	Doc       Docstring
	Body      Shape
	// Complexity is the cyclomatic complexity of the body: one, and one more
	// for each if, elif, for, while, except, case, guard, comprehension clause,
	// conditional expression, and, or. What is nested inside counts.
	Complexity int
}

// Comment is one comment, from its `#` to the end of its line.
type Comment struct {
	Line       int
	Start, End int // byte offsets
}

// Enclosing returns the innermost definition around a line, or nil.
func (f *File) Enclosing(line int) *Def {
	i := sort.Search(len(f.Defs), func(i int) bool { return f.Defs[i].Line > line }) - 1
	for ; i >= 0; i = f.Defs[i].Parent {
		if line <= f.Defs[i].EndLine {
			return &f.Defs[i]
		}
	}
	return nil
}

// SyntaxError says where a file stops being Python.
type SyntaxError struct {
	Line    int
	Message string
}

// Error returns the message with the line.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }
