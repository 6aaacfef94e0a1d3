// Package pysrc reads Python source closely enough to put docstrings into it:
// where definitions begin and end, their signatures as written, and what their
// bodies raise, return and yield. It is for package scaffold alone.
package pysrc

import (
	"bytes"
	"fmt"
)

// kind is the class of a token.
type kind uint8

const (
	word kind = iota + 1
	number
	text // a string
	operator
	newline // the end of a logical line
)

// token is one token; from and to are byte offsets.
type token struct {
	kind     kind
	from, to int
	line     int
	// plain says that a string is neither bytes nor formatted.
	plain bool
}

// SyntaxError says where a file stops being Python.
type SyntaxError struct {
	Line    int
	Message string
}

// Error returns the message with the line.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }

// lexer cuts a file into tokens.
type lexer struct {
	src   []byte
	pos   int
	line  int
	open  []byte // brackets
	out   []token
	nests int
}

// maxNesting bounds strings within strings.
const maxNesting = 32

func (l *lexer) fail(message string) error { return &SyntaxError{l.line, message} }

func (l *lexer) at(n int) byte {
	if l.pos+n < len(l.src) {
		return l.src[l.pos+n]
	}
	return 0
}

// tokens cuts all of src.
func tokens(src []byte) ([]token, error) {
	l := &lexer{src: src, line: 1}
	if bytes.HasPrefix(src, []byte("\ufeff")) {
		l.pos = 3
	}
	for l.pos < len(src) {
		if err := l.next(); err != nil {
			return nil, err
		}
	}
	if len(l.open) > 0 {
		return nil, l.fail("a bracket is never closed")
	}
	l.endLine(len(src))
	return l.out, nil
}

// endLine closes the logical line unless it is empty.
func (l *lexer) endLine(at int) {
	if n := len(l.out); n > 0 && l.out[n-1].kind != newline {
		l.out = append(l.out, token{kind: newline, from: at, to: at, line: l.line})
	}
}

func (l *lexer) next() error {
	c := l.src[l.pos]
	switch {
	case c == ' ', c == '\t', c == '\f':
		l.pos++
	case c == '\r' && l.at(1) == '\n':
		l.pos++
	case c == '\r':
		return l.fail("lines end with a lone carriage return")
	case c == '\n':
		if len(l.open) == 0 {
			l.endLine(l.pos)
		}
		l.pos++
		l.line++
	case c == '#':
		l.comment()
	case c == '\\':
		return l.joined()
	case isName(c):
		return l.word()
	case c >= '0' && c <= '9', c == '.' && l.at(1) >= '0' && l.at(1) <= '9':
		l.number()
	case c == '"', c == '\'':
		return l.str(l.pos)
	default:
		return l.operator(c)
	}
	return nil
}

func (l *lexer) comment() {
	if end := bytes.IndexByte(l.src[l.pos:], '\n'); end >= 0 {
		l.pos += end
	} else {
		l.pos = len(l.src)
	}
}

// joined takes a backslash at the end of a line.
func (l *lexer) joined() error {
	l.pos++
	if l.at(0) == '\r' {
		l.pos++
	}
	if l.at(0) != '\n' {
		return l.fail("a backslash is not followed by the end of the line")
	}
	l.pos++
	l.line++
	return nil
}

func isName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func isNamePart(c byte) bool { return isName(c) || c >= '0' && c <= '9' }

func (l *lexer) add(k kind, from int) {
	l.out = append(l.out, token{kind: k, from: from, to: l.pos, line: l.line})
}

func (l *lexer) word() error {
	from := l.pos
	for l.pos < len(l.src) && isNamePart(l.src[l.pos]) {
		l.pos++
	}
	if c := l.at(0); (c == '"' || c == '\'') && isPrefix(l.src[from:l.pos]) {
		return l.str(from)
	}
	l.add(word, from)
	return nil
}

func isPrefix(s []byte) bool {
	return len(s) <= 2 && len(bytes.Trim(s, "rRbBuUfFtT")) == 0
}

func (l *lexer) number() {
	from := l.pos
	for l.pos < len(l.src) && (isNamePart(l.src[l.pos]) || l.src[l.pos] == '.') {
		if c := l.src[l.pos] | 0x20; c == 'e' && (l.at(1) == '+' || l.at(1) == '-') && !isHex(l.src[from:l.pos]) {
			l.pos++
		}
		l.pos++
	}
	l.add(number, from)
}

func isHex(s []byte) bool { return len(s) > 1 && s[0] == '0' && s[1]|0x20 == 'x' }

func (l *lexer) operator(c byte) error {
	from := l.pos
	switch c {
	case '(', '[', '{':
		l.open = append(l.open, c)
	case ')', ']', '}':
		n := len(l.open)
		if n == 0 || !pairs(l.open[n-1], c) {
			return l.fail("brackets do not match")
		}
		l.open = l.open[:n-1]
	case '-':
		if l.at(1) == '>' {
			l.pos++
		}
	case ':', '=', '!', '<', '>':
		if l.at(1) == '=' {
			l.pos++
		}
	case '*':
		if l.at(1) == '*' {
			l.pos++
		}
	case '.', ',', ';', '@', '+', '/', '%', '&', '|', '^', '~':
	default:
		return l.fail("unexpected character")
	}
	l.pos++
	l.add(operator, from)
	return nil
}

func pairs(open, end byte) bool {
	return open == '(' && end == ')' || open == '[' && end == ']' || open == '{' && end == '}'
}

// str takes the string whose prefix begins at from and whose quote is at pos.
func (l *lexer) str(from int) error {
	t := token{kind: text, from: from, line: l.line, plain: true}
	raw, formatted := false, false
	for _, c := range l.src[from:l.pos] {
		switch c | 0x20 {
		case 'r':
			raw = true
		case 'b':
			t.plain = false
		case 'f', 't':
			formatted, t.plain = true, false
		}
	}
	if err := l.literal(raw, formatted); err != nil {
		return err
	}
	t.to = l.pos
	l.out = append(l.out, t)
	return nil
}

// literal takes a string from its quote.
func (l *lexer) literal(raw, formatted bool) error {
	quote := l.src[l.pos]
	triple := l.at(1) == quote && l.at(2) == quote
	l.pos++
	if triple {
		l.pos += 2
	}
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == quote && !triple:
			l.pos++
			return nil
		case c == quote && l.at(1) == quote && l.at(2) == quote:
			l.pos += 3
			return nil
		case c == '\\' && formatted && raw && (l.at(1) == '{' || l.at(1) == '}'):
			l.pos++
		case c == '\\':
			l.escape()
		case c == '\n':
			if !triple {
				return l.fail("a string is not closed on its line")
			}
			l.line++
			l.pos++
		case formatted && c == '{' && l.at(1) == '{':
			l.pos += 2
		case formatted && c == '{':
			l.pos++
			if err := l.field(quote, triple); err != nil {
				return err
			}
		default:
			l.pos++
		}
	}
	return l.fail("a string is never closed")
}

// escape takes a backslash and what follows it.
func (l *lexer) escape() {
	l.pos++
	if l.at(0) == '\r' && l.at(1) == '\n' {
		l.pos++
	}
	if l.at(0) == '\n' {
		l.line++
	}
	l.pos++
}

// field takes a replacement field of a formatted string after its brace. A
// quote that ends the string ends the field, for before Python 3.12 it did.
func (l *lexer) field(quote byte, triple bool) error {
	if l.nests++; l.nests > maxNesting {
		return l.fail("strings are nested too deeply")
	}
	defer func() { l.nests-- }()
	depth := 0
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '}' && depth == 0:
			l.pos++
			return nil
		case c == ':' && depth == 0 && l.at(1) != '=':
			return l.spec(quote, triple)
		case c == '(' || c == '[' || c == '{':
			depth++
			l.pos++
		case c == ')' || c == ']' || c == '}':
			depth--
			l.pos++
		case c == '"' || c == '\'':
			formatted := l.pos > 0 && l.src[l.pos-1]|0x20 == 'f'
			if err := l.literal(false, formatted); err != nil {
				return err
			}
		case c == '\n':
			l.line++
			l.pos++
		default:
			l.pos++
		}
	}
	return l.fail("a replacement field is never closed")
}

// spec takes a format specification to the end of its field.
func (l *lexer) spec(quote byte, triple bool) error {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '}':
			l.pos++
			return nil
		case c == '{':
			l.pos++
			if err := l.field(quote, triple); err != nil {
				return err
			}
		case c == quote && !triple:
			return l.fail("a replacement field is never closed")
		case c == '\n':
			l.line++
			l.pos++
		default:
			l.pos++
		}
	}
	return l.fail("a replacement field is never closed")
}
