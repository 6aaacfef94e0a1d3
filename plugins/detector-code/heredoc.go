package main

import "bytes"

// maxMisses is how often a text's end is looked for in vain.
const maxMisses = 16

// heredocMark takes <<WORD, <<-WORD, <<~WORD or <<'WORD'.
func (l *commentLexer) heredocMark() bool {
	if !l.has("<<") || l.misses > maxMisses {
		return false
	}
	if l.has("<<<") { // a string that is given as input
		l.pos += 3
		return true
	}
	rest := l.ahead(maxWord)[2:]
	n := 0
	if n < len(rest) && (rest[n] == '-' || rest[n] == '~') {
		n++
	}
	var quote byte
	if n < len(rest) && (rest[n] == '\'' || rest[n] == '"') {
		quote = rest[n]
		n++
	}
	start := n
	for n < len(rest) && (rest[n] == '_' || rest[n] >= 'A' && rest[n] <= 'Z' || rest[n] >= 'a' && rest[n] <= 'z' || n > start && rest[n] >= '0' && rest[n] <= '9') {
		n++
	}
	if n == start {
		return false
	}
	word := string(rest[start:n])
	if quote != 0 {
		if n >= len(rest) || rest[n] != quote {
			return false
		}
		n++
	}
	l.heredocs = append(l.heredocs, word)
	l.pos += 2 + n
	l.last = '"'
	return true
}

// skipHeredoc skips lines to the one that is word. Where there is none it was a
// shift to the left.
func (l *commentLexer) skipHeredoc(word string) {
	pos, line := l.pos, l.line
	for l.pos < len(l.src) {
		end := l.lineEnd()
		text := bytes.TrimSpace(l.src[l.pos:end])
		l.skip(min(end+1, len(l.src)) - l.pos)
		if string(text) == word {
			return
		}
	}
	l.pos, l.line = pos, line
	l.misses++
}

// startsText says whether the line that ends at pos ends with the mark of a
// block of text: a | or > where a value stands, perhaps with - + or a digit.
func (l *commentLexer) startsText() bool {
	start := bytes.LastIndexByte(l.src[:l.pos], '\n') + 1
	line := l.src[start:l.pos]
	if i := bytes.Index(line, []byte(" #")); i >= 0 {
		line = line[:i]
	}
	line = bytes.TrimRight(line, " \t\r")
	line = bytes.TrimRight(line, "+-0123456789")
	n := len(line)
	if n == 0 || line[n-1] != '|' && line[n-1] != '>' {
		return false
	}
	before := bytes.TrimRight(line[:n-1], " \t")
	return len(before) < n-1 || len(before) == 0
}

// skipIndented skips the lines that are indented deeper than the line before,
// and blank ones among them.
func (l *commentLexer) skipIndented() {
	parent := l.indent
	for l.pos < len(l.src) {
		end := l.lineEnd()
		line := l.src[l.pos:end]
		indent := len(line) - len(bytes.TrimLeft(line, " \t"))
		if len(bytes.TrimSpace(line)) > 0 && indent <= parent {
			return
		}
		l.skip(min(end+1, len(l.src)) - l.pos)
	}
}
