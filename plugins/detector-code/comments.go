package main

import (
	"bytes"
	"unicode/utf8"
)

// comments calls found with every comment in src and the line it begins on. It
// errs on the side of finding too little: what may be text of a string is no
// comment.
func (s *syntax) comments(src []byte, found func(line int, text []byte)) {
	l := &commentLexer{syntax: s, src: src, line: 1, found: found, fresh: true}
	for l.pos < len(src) {
		l.step()
	}
}

// commentLexer goes through a file once; every step moves it on.
type commentLexer struct {
	*syntax
	src   []byte
	pos   int
	line  int
	found func(line int, text []byte)
	// fresh says that nothing but white space stands before pos on its line.
	fresh bool
	// last is the last byte of code that was no space; 0 at the start.
	last byte
	// heredocs are the words that end the texts that begin after this line.
	heredocs []string
	// misses counts the ends of such texts that were not there.
	misses int
	// holes holds, for each hole in a string around pos, how many braces are
	// open in it.
	holes []hole
	// indent is the indentation of the line.
	indent int
}

// hole is code in a string.
type hole struct {
	braces int
	quote  quote
}

// has says whether text stands at pos.
func (l *commentLexer) has(text string) bool {
	return len(text) > 0 && len(l.src)-l.pos >= len(text) && string(l.src[l.pos:l.pos+len(text)]) == text
}

// step takes one comment, string or byte of code.
func (l *commentLexer) step() {
	c := l.src[l.pos]
	switch {
	case c == '\n':
		l.newline()
	case c == ' ' || c == '\t' || c == '\r':
		if l.fresh {
			l.indent++
		}
		l.pos++
	case l.block() || l.lineComment() || l.text() || l.hole(c):
		l.fresh = false
	default:
		l.fresh = false
		l.last = c
		l.pos++
		if c == '\\' && l.pos < len(l.src) && l.src[l.pos] != '\n' {
			l.pos++
		}
	}
}

// newline ends a line of code, and skips the texts that begin after it.
func (l *commentLexer) newline() {
	if l.indents && l.startsText() {
		l.pos, l.line = l.pos+1, l.line+1
		l.skipIndented()
		l.fresh, l.indent = true, 0
		return
	}
	if l.block() { // =begin
		return
	}
	l.pos, l.line = l.pos+1, l.line+1
	l.fresh, l.indent = true, 0
	for _, word := range l.heredocs {
		l.skipHeredoc(word)
	}
	l.heredocs = nil
}

// block takes a comment between marks.
func (l *commentLexer) block() bool {
	for _, p := range l.blocks {
		if !l.has(p.open) {
			continue
		}
		start, line, depth := l.pos, l.line, 0
		for l.pos < len(l.src) {
			switch {
			case l.has(p.open) && (depth == 0 || l.nested):
				depth++
				l.skip(len(p.open))
			case l.has(p.close):
				depth--
				l.skip(len(p.close))
			default:
				l.skip(1)
			}
			if depth == 0 {
				l.found(line, l.src[start:l.pos])
				return true
			}
		}
		return true // never closed: in doubt, no comment
	}
	return false
}

// skip moves on by n bytes and counts the lines.
func (l *commentLexer) skip(n int) {
	l.line += bytes.Count(l.src[l.pos:l.pos+n], []byte("\n"))
	l.pos += n
}

// lineComment takes a comment to the end of the line.
func (l *commentLexer) lineComment() bool {
	for _, open := range l.syntax.line {
		if !l.has(open) || l.first && !l.fresh {
			continue
		}
		if l.pos > 0 {
			before := l.src[l.pos-1]
			if l.word && !isSpace(before) || open == "//" && before == ':' || before == '\\' { // a URL
				continue
			}
		}
		end := l.lineEnd()
		l.found(l.line, l.src[l.pos:end])
		l.pos = end
		return true
	}
	return false
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// lineEnd returns where the line ends.
func (l *commentLexer) lineEnd() int {
	if i := bytes.IndexByte(l.src[l.pos:], '\n'); i >= 0 {
		return l.pos + i
	}
	return len(l.src)
}

// How far is looked for the end of what must end on its line, in bytes: a line
// can be a whole file.
const (
	maxRune  = 16
	maxRegex = 1 << 10
	maxWord  = 80
	maxTag   = 63
	// maxHashes is how many may stand around a raw string.
	maxHashes = 16
)

// ahead returns the rest of the line from pos, at most n bytes of it.
func (l *commentLexer) ahead(n int) []byte {
	rest := l.src[l.pos:min(l.pos+n, len(l.src))]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		return rest[:i]
	}
	return rest
}

// text takes a string, a character, a regular expression, or the mark of a text
// that follows.
func (l *commentLexer) text() bool {
	c := l.src[l.pos]
	switch {
	case l.runes && c == '\'':
		l.rune()
		return true
	case l.dollars && c == '$' && l.dollarString(),
		l.heredoc && c == '<' && l.heredocMark(),
		l.slashes && c == '/' && l.regex():
		return true
	}
	for _, q := range l.quotes {
		if q.value && !l.fresh && bytes.IndexByte([]byte(":-[{,?!"), l.last) < 0 {
			continue
		}
		if n, hashes := l.opens(q); n > 0 {
			l.pos += n
			l.string(q, hashes)
			l.last = '"'
			return true
		}
	}
	return false
}

// opens returns the length of the opening of q at pos, or 0, and the hashes
// that must follow its end.
func (l *commentLexer) opens(q quote) (n int, hashes string) {
	if !q.hashes {
		if l.has(q.open) && (q.open[0] != 'r' && q.open[0] != 'R' || !l.inWord()) {
			return len(q.open), ""
		}
		return 0, ""
	}
	at := l.pos
	if q.open != q.close { // r#"
		if !l.has(q.open) || l.inWord() {
			return 0, ""
		}
		at += len(q.open)
	}
	start := at
	for at < len(l.src) && at-start < maxHashes && l.src[at] == '#' {
		at++
	}
	if at == start || at >= len(l.src) || l.src[at] != '"' {
		return 0, ""
	}
	return at + 1 - l.pos, string(l.src[start:at])
}

// inWord says whether pos continues a word.
func (l *commentLexer) inWord() bool {
	r, _ := utf8.DecodeLastRune(l.src[:l.pos])
	return l.pos > 0 && isWordRune(r)
}

// string takes the rest of a string. One that should have ended on its line
// makes the rest of the line doubtful, and is left at its end.
func (l *commentLexer) string(q quote, hashes string) {
	end := q.close + hashes
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		switch {
		case c == '\n' && !q.multi:
			return
		case c == q.escape && c != 0:
			l.skip(min(2, len(l.src)-l.pos))
		case q.holes && l.has("${"):
			l.pos += 2
			l.holes = append(l.holes, hole{quote: q})
			l.last = '{'
			return
		case l.has(end):
			l.pos += len(end)
			if !q.doubled || !l.has(end) {
				return
			}
			l.pos += len(end)
		default:
			l.skip(1)
		}
	}
}

// hole counts the braces of code in a string, and goes on with the string after
// the last.
func (l *commentLexer) hole(c byte) bool {
	n := len(l.holes)
	if n == 0 || c != '{' && c != '}' {
		return false
	}
	top := &l.holes[n-1]
	l.pos++
	l.last = c
	switch {
	case c == '{':
		top.braces++
	case top.braces > 0:
		top.braces--
	default:
		q := top.quote
		l.holes = l.holes[:n-1]
		l.string(q, "")
		l.last = '"'
	}
	return true
}

// rune takes a character literal, or a lone quote: a lifetime, a separator of
// digits.
func (l *commentLexer) rune() {
	rest := l.ahead(maxRune)[1:]
	l.pos++
	l.last = '\''
	if len(rest) == 0 {
		return
	}
	var n int
	if rest[0] == '\\' {
		n = 2
		for n < len(rest) && rest[n] != '\'' {
			n++
		}
	} else {
		_, n = utf8.DecodeRune(rest)
	}
	if n < len(rest) && rest[n] == '\'' {
		l.pos += n + 1
	}
}

// regex takes a regular expression where one may stand and ends on its line.
func (l *commentLexer) regex() bool {
	if l.last != 0 && bytes.IndexByte([]byte("(,=:[!&|?{};~+-*%<>^"), l.last) < 0 && !l.fresh && !l.afterKeyword() {
		return false
	}
	set := false
	for i, rest := 1, l.ahead(maxRegex); i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\':
			i++
		case c == '[':
			set = true
		case c == ']':
			set = false
		case c == '/' && !set:
			l.pos += i + 1
			l.last = '/'
			return true
		}
	}
	return false
}

// afterKeyword says whether a word stands before pos after which there is no
// division.
func (l *commentLexer) afterKeyword() bool {
	before := bytes.TrimRight(l.src[max(0, l.pos-16):l.pos], " \t")
	i := len(before)
	for i > 0 && isWordRune(rune(before[i-1])) {
		i--
	}
	switch string(before[i:]) {
	case "return", "typeof", "case", "in", "of", "delete", "void", "throw", "if", "unless", "when", "and", "or", "not", "match":
		return true
	}
	return false
}

// dollarString takes a string between $tag$ and $tag$.
func (l *commentLexer) dollarString() bool {
	end := l.pos + 1
	for end < len(l.src) && end-l.pos <= maxTag && isWordRune(rune(l.src[end])) {
		end++
	}
	if end >= len(l.src) || l.src[end] != '$' || l.inWord() {
		return false
	}
	tag := l.src[l.pos : end+1]
	i := bytes.Index(l.src[end+1:], tag)
	if i < 0 {
		l.skip(len(l.src) - l.pos)
		return true
	}
	l.skip(len(tag) + i + len(tag))
	return true
}
