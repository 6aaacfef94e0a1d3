package filter

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind int

const (
	end tokenKind = iota
	word
	quoted
	operator
	open
	closed
)

type token struct {
	kind tokenKind
	at   int    // byte in the input
	text string // as it stands in the input; of quoted, between the quotes
}

// lexer yields the tokens of an input that is valid UTF-8.
type lexer struct {
	input string
	pos   int
}

func (l *lexer) next() (token, error) {
	for l.pos < len(l.input) && strings.IndexByte(" \t\n\r", l.input[l.pos]) >= 0 {
		l.pos++
	}
	at := l.pos
	if at == len(l.input) {
		return token{kind: end, at: at}, nil
	}
	switch c := l.input[at]; {
	case c == '(':
		l.pos++
		return token{open, at, "("}, nil
	case c == ')':
		l.pos++
		return token{closed, at, ")"}, nil
	case c == '"':
		return l.quoted()
	case strings.IndexByte("=<>!:", c) >= 0:
		return l.operator()
	}
	for l.pos < len(l.input) {
		r, size := utf8.DecodeRuneInString(l.input[l.pos:])
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-./*+@", r) {
			break
		}
		l.pos += size
	}
	if l.pos == at {
		r, _ := utf8.DecodeRuneInString(l.input[at:])
		return token{}, problem(l.input, at, "%q has no meaning here; put values with such characters in double quotes", r)
	}
	return token{word, at, l.input[at:l.pos]}, nil
}

func (l *lexer) operator() (token, error) {
	at := l.pos
	for _, op := range []string{"!=", "<=", ">=", "=", "<", ">", ":"} {
		if strings.HasPrefix(l.input[at:], op) {
			l.pos += len(op)
			return token{operator, at, op}, nil
		}
	}
	return token{}, problem(l.input, at, `"!" alone has no meaning; write != or NOT`)
}

func (l *lexer) quoted() (token, error) {
	at := l.pos
	for i := at + 1; i < len(l.input); i++ {
		switch l.input[i] {
		case '\\':
			i++
		case '"':
			l.pos = i + 1
			return token{quoted, at, l.input[at+1 : i]}, nil
		}
	}
	return token{}, problem(l.input, at, "the quotation mark is not closed")
}

// parts are the literal texts between the asterisks of a value. In quotes a
// backslash makes the character after it literal: one of " \ *.
func parts(input string, t token) ([]string, error) {
	var out []string
	var b strings.Builder
	begin := t.at
	if t.kind == quoted {
		begin++
	}
	for i := 0; i < len(t.text); i++ {
		c := t.text[i]
		switch {
		case c < ' ' || c == 0x7f:
			return nil, problem(input, begin+i, "a value has no control characters")
		case c == '\\':
			i++
			if i == len(t.text) || strings.IndexByte(`"\*`, t.text[i]) < 0 {
				return nil, problem(input, begin+i-1, `a backslash stands before one of " \ * only`)
			}
			b.WriteByte(t.text[i])
		case c == '*':
			out = append(out, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(out, b.String()), nil
}
