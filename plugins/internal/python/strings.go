package python

import "bytes"

// maxFields bounds how deep replacement fields nest before there is doubt.
const maxFields = 64

// literal is a string while it is read.
type literal struct {
	line   int // of its first byte
	quote  byte
	triple bool
	raw    bool
}

// str takes the string whose prefix begins at start and whose quote is at pos.
func (l *lexer) str(start int) kind {
	lit := literal{line: l.line, quote: l.src[l.pos]}
	k := str
	for _, c := range l.src[start:l.pos] {
		switch c | 0x20 {
		case 'r':
			lit.raw = true
		case 'b':
			k = bytesLit
		case 'f', 't':
			k = fstring
		}
	}
	l.pos++
	if l.at(0) == lit.quote && l.at(1) == lit.quote {
		lit.triple = true
		l.pos += 2
	} else if l.at(0) == lit.quote { // empty
		l.pos++
		return k
	}
	if k == fstring {
		prev := l.prev
		l.formatted(lit)
		l.prev = prev
	} else {
		l.plain(lit)
	}
	return k
}

// plain takes the rest of a string that is not formatted.
func (l *lexer) plain(lit literal) {
	for l.pos < len(l.src) {
		switch l.src[l.pos] {
		case '\\':
			l.escape()
		case '\n':
			if !lit.triple {
				l.unterminated(lit)
				return
			}
			l.pos++
			l.line++
		case lit.quote:
			if l.ends(lit) {
				return
			}
		default:
			l.pos++
		}
	}
	l.unterminated(lit)
}

func (l *lexer) unterminated(lit literal) { l.broken(lit.line, "a string is never closed") }

// escape takes a backslash and what it protects.
func (l *lexer) escape() {
	l.pos++
	if l.at(0) == '\r' && l.at(1) == '\n' {
		l.pos++
	}
	if l.at(0) == '\n' {
		l.line++
	}
	if l.pos < len(l.src) {
		l.pos++
	}
}

// ends takes the quote at pos, all three of a triple, and says whether the
// string ends with it.
func (l *lexer) ends(lit literal) bool {
	if !lit.triple {
		l.pos++
		return true
	}
	if l.at(1) == lit.quote && l.at(2) == lit.quote {
		l.pos += 3
		return true
	}
	l.pos++
	return false
}

// formatted takes the rest of a formatted string.
func (l *lexer) formatted(lit literal) {
	for l.pos < len(l.src) && !l.doubt {
		switch c := l.src[l.pos]; {
		case c == '\\':
			l.formattedEscape(lit)
		case c == '\n' && lit.triple:
			l.pos++
			l.line++
		case c == '\n':
			l.unterminated(lit)
			return
		case c == lit.quote:
			if l.ends(lit) {
				return
			}
		case c == '{' || c == '}':
			if l.at(1) == c {
				l.pos += 2
				continue
			}
			if c == '}' {
				l.broken(l.line, "a lone '}' in a formatted string")
				return
			}
			l.field(lit)
		default:
			l.pos++
		}
	}
	l.unterminated(lit)
}

// formattedEscape takes a backslash in a formatted string: it does not protect
// braces, but the braces of \N{name} hold no expression.
func (l *lexer) formattedEscape(lit literal) {
	switch next := l.at(1); {
	case next == '{' || next == '}':
		l.pos++
	case next == 'N' && l.at(2) == '{' && !lit.raw:
		end := bytes.IndexByte(l.src[l.pos:], '}')
		if end < 0 {
			l.fail()
			return
		}
		l.pos += end + 1
	default:
		l.escape()
	}
}

// field takes a replacement field, whose brace is at pos.
func (l *lexer) field(lit literal) {
	if l.fields >= maxFields {
		l.fail()
		return
	}
	l.fields++
	defer func() { l.fields-- }()
	l.brackets = append(l.brackets, bracket{'{', l.line})
	depth := len(l.brackets)
	l.pos++
	l.prev = opening
	for tokens := 0; !l.doubt; tokens++ {
		if !l.space() {
			l.broken(l.line, "a backslash is not followed by the end of the line")
			return
		}
		if len(l.brackets) == depth {
			switch c := l.at(0); {
			case tokens == 0 && (c == '}' || c == ':' || c == '!' || c == '='):
				l.fail()
				return
			case c == '!' && l.at(1) != '=':
				l.conversion()
			}
			switch l.at(0) {
			case ':':
				l.spec(lit)
				return
			case '}':
				l.close('}')
				return
			}
		}
		if l.next().kind == eof {
			l.fail()
			return
		}
	}
}

// conversion takes `!r` and the like.
func (l *lexer) conversion() {
	l.pos++
	for class[l.at(0)] == cName {
		l.pos++
	}
	for class[l.at(0)] == cSpace {
		l.pos++
	}
	if c := l.at(0); c != ':' && c != '}' {
		l.fail()
	}
}

// spec takes a format specification and the brace that ends the field.
func (l *lexer) spec(lit literal) {
	l.pos++
	for l.pos < len(l.src) && !l.doubt {
		switch c := l.src[l.pos]; {
		case c == '}':
			l.close('}')
			return
		case c == '{' && l.at(1) == '{', c == lit.quote && !lit.triple, c == '\n' && !lit.triple:
			l.fail()
		case c == lit.quote && l.at(1) == c && l.at(2) == c:
			l.fail()
		case c == '{':
			l.field(lit)
		case c == '\\':
			l.formattedEscape(lit)
		default:
			if c == '\n' {
				l.line++
			}
			l.pos++
		}
	}
}

// isBlank says whether a string literal holds nothing but white space.
func isBlank(text []byte) bool {
	text = bytes.TrimLeft(text, "rRuU")
	if len(text) == 0 {
		return true
	}
	return len(bytes.TrimSpace(bytes.Trim(text, string(text[:1])))) == 0
}
