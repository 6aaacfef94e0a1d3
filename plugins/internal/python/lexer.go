package python

import "bytes"

// Classes of bytes.
const (
	cOther byte = iota
	cSpace
	cName
	cDigit
	cQuote
	cOpen
	cClose
	cOperator
)

var class = func() (t [256]byte) {
	for i := range t {
		switch b := byte(i); {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == '_', b >= 0x80:
			t[i] = cName
		case b >= '0' && b <= '9':
			t[i] = cDigit
		case b == ' ', b == '\t', b == '\f':
			t[i] = cSpace
		case b == '"', b == '\'':
			t[i] = cQuote
		case b == '(', b == '[', b == '{':
			t[i] = cOpen
		case b == ')', b == ']', b == '}':
			t[i] = cClose
		case bytes.IndexByte([]byte("+-*/%@&|^~<>=.,:;!"), b) >= 0:
			t[i] = cOperator
		}
	}
	return t
}()

// bracket is an open one.
type bracket struct {
	char byte
	line int
}

// lexer cuts a file into tokens. Where it is not sure that what it sees is
// Python it sets doubt, and err if it is sure that it is not; it returns eof
// from there on.
type lexer struct {
	src      []byte
	pos      int
	line     int
	brackets []bracket // open ones
	// prev is the kind of the token before, last the line on which it ended.
	prev kind
	last int
	// notIn says that a `not` after an operand waits for its `in`.
	notIn bool
	// points counts the decisions so far.
	points   int
	comments []Comment
	doubt    bool
	err      *SyntaxError
	// fields is how many replacement fields of f-strings enclose pos.
	fields int
}

// at returns the byte n after pos, or 0.
func (l *lexer) at(n int) byte {
	if l.pos+n < len(l.src) {
		return l.src[l.pos+n]
	}
	return 0
}

// fail gives up in doubt: what stands here may be Python.
func (l *lexer) fail() token {
	l.doubt = true
	l.pos = len(l.src)
	return token{kind: eof, start: l.pos, end: l.pos, line: l.line}
}

// broken gives up because no Python has what stands on the line.
func (l *lexer) broken(line int, message string) token {
	if l.err == nil && !l.doubt {
		l.err = &SyntaxError{Line: line, Message: message}
	}
	return l.fail()
}

// next returns the next token, past white space, comments and joined lines.
func (l *lexer) next() token {
	if !l.space() {
		return l.broken(l.line, "a backslash is not followed by the end of the line")
	}
	t := token{start: l.pos, line: l.line}
	if l.pos < len(l.src) {
		t.kind = l.scan()
	}
	t.end = l.pos
	if n := len(l.brackets); n > 0 && (t.kind == eof || t.kind.startsStatement()) {
		return l.broken(l.brackets[n-1].line, "a bracket is never closed")
	}
	if l.doubt {
		return l.fail()
	}
	if !l.fits(t.kind) {
		return l.broken(t.line, "invalid syntax")
	}
	l.prev = t.kind
	if t.kind > newline {
		l.last = l.line
	}
	return t
}

// fits says whether a token of kind k may follow the one before. It knows only
// which operands and operators can be neighbours, which is what most broken
// lines get wrong.
func (l *lexer) fits(k kind) bool {
	if l.notIn {
		l.notIn = false
		return k == kwIn
	}
	p := l.prev
	switch {
	case p.endsOperand():
		if k == kwNot {
			l.notIn = true
			return true
		}
		joined := isString(p) && isString(k)
		relative := p == ellipsis && k == name // from ...a import b
		return joined || relative || !k.startsOperand()
	case p.wantsOperand():
		if p == kwIs && k == kwNot {
			return true
		}
		// A lone slash ends positional parameters; relative imports are dots.
		slash := p == binary && (k == comma || k == closing || k == colon)
		return slash || p == dot || !k.cannotStart()
	case p == assign && l.fields == 0 && k.cannotStart():
		return false
	}
	lone := k == kwAnd || k == kwOr || k == kwIs || (k == kwIn || k == binary) && p != comma
	return !lone || p == soft
}

func isString(k kind) bool { return k == str || k == bytesLit || k == fstring }

// space skips what separates tokens. Inside brackets that includes line ends.
func (l *lexer) space() bool {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case class[c] == cSpace:
			l.pos++
		case c == '#':
			l.comment()
		case c == '\n' && len(l.brackets) > 0, c == '\r' && len(l.brackets) > 0 && l.at(1) == '\n':
			if c == '\r' {
				l.pos++
			}
			l.pos++
			l.line++
		case c == '\\':
			l.pos++
			if l.at(0) == '\r' {
				l.pos++
			}
			if l.at(0) != '\n' || l.pos+1 >= len(l.src) {
				return false
			}
			l.pos++
			l.line++
		default:
			return true
		}
	}
	return true
}

// comment takes the comment at pos.
func (l *lexer) comment() {
	end := bytes.IndexByte(l.src[l.pos:], '\n')
	if end < 0 {
		end = len(l.src)
	} else {
		end += l.pos
	}
	text := bytes.TrimSuffix(l.src[l.pos:end], []byte("\r"))
	l.comments = append(l.comments, Comment{Line: l.line, Start: l.pos, End: l.pos + len(text)})
	l.pos += len(text)
}

// scan takes the token at pos, which is no space.
func (l *lexer) scan() kind {
	c := l.src[l.pos]
	switch class[c] {
	case cName:
		return l.word()
	case cDigit:
		return l.number()
	case cQuote:
		return l.str(l.pos)
	case cOpen:
		l.brackets = append(l.brackets, bracket{c, l.line})
		l.pos++
		return opening
	case cClose:
		return l.close(c)
	case cOperator:
		return l.operator(c)
	}
	switch {
	case c == '\n', c == '\r' && l.at(1) == '\n':
		if c == '\r' {
			l.pos++
		}
		l.pos++
		l.line++
		return newline
	}
	return l.broken(l.line, "unexpected character").kind
}

// close takes a closing bracket.
func (l *lexer) close(c byte) kind {
	n := len(l.brackets)
	if n == 0 {
		return l.broken(l.line, "a bracket is closed that was not opened").kind
	}
	open := l.brackets[n-1].char
	if open == '(' && c != ')' || open == '[' && c != ']' || open == '{' && c != '}' {
		return l.broken(l.line, "brackets do not match").kind
	}
	l.brackets = l.brackets[:n-1]
	l.pos++
	return closing
}

// word takes a name, a keyword or a string with a prefix.
func (l *lexer) word() kind {
	start := l.pos
	for l.pos < len(l.src) && (class[l.src[l.pos]] == cName || class[l.src[l.pos]] == cDigit) {
		l.pos++
	}
	text := l.src[start:l.pos]
	if c := l.at(0); (c == '"' || c == '\'') && len(text) <= 2 && isPrefix(text) {
		return l.str(start)
	}
	if len(text) < 2 || len(text) > 8 {
		return name
	}
	k := keyword(text)
	switch k {
	case kwIf, kwElif, kwFor, kwWhile, kwExcept, kwAnd, kwOr:
		l.points++
	}
	return k
}

// isPrefix says whether text may stand before a quote.
func isPrefix(text []byte) bool {
	for _, c := range text {
		switch c | 0x20 {
		case 'r', 'b', 'u', 'f', 't':
		default:
			return false
		}
	}
	return true
}

// number takes a number. A keyword may follow without a space.
func (l *lexer) number() kind {
	digits := func(hex bool) {
		for {
			c := l.at(0)
			if class[c] != cDigit && c != '_' && (!hex || c|0x20 < 'a' || c|0x20 > 'f') {
				return
			}
			l.pos++
		}
	}
	if l.at(0) == '0' {
		if c := l.at(1) | 0x20; c == 'x' || c == 'o' || c == 'b' {
			l.pos += 2
			digits(c == 'x')
			return number
		}
	}
	digits(false)
	if l.at(0) == '.' {
		l.pos++
		digits(false)
	}
	if l.at(0)|0x20 == 'e' {
		n := 1
		if c := l.at(1); c == '+' || c == '-' {
			n = 2
		}
		if class[l.at(n)] == cDigit {
			l.pos += n
			digits(false)
		}
	}
	if l.at(0)|0x20 == 'j' {
		l.pos++
	}
	return number
}

// operator takes an operator or a delimiter.
func (l *lexer) operator(c byte) kind {
	second := l.at(1)
	switch c {
	case ',':
		l.pos++
		return comma
	case ';':
		l.pos++
		return semicolon
	case '~':
		l.pos++
		return sign
	case '.':
		if class[second] == cDigit {
			return l.number()
		}
		if second == '.' && l.at(2) == '.' {
			l.pos += 3
			return ellipsis
		}
		l.pos++
		return dot
	case ':':
		if second == '=' && l.fields == 0 {
			l.pos += 2
			return walrus
		}
		l.pos++
		return colon
	case '!':
		if second != '=' {
			return l.broken(l.line, "unexpected character").kind
		}
		l.pos += 2
		return binary
	}
	n := 1
	if second == c && (c == '*' || c == '/' || c == '<' || c == '>') {
		n = 2
	}
	if c == '-' && second == '>' {
		l.pos += 2
		return arrow
	}
	if l.at(n) == '=' {
		l.pos += n + 1
		return binary
	}
	l.pos += n
	switch c {
	case '*':
		return star
	case '=':
		return assign
	case '@':
		return at
	case '+', '-':
		return sign
	}
	return binary
}
