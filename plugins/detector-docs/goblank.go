package main

import "bytes"

// lexical marks the bytes at which [blankBraces] has to look.
var lexical = [256]bool{'{': true, '}': true, '"': true, '\'': true, '`': true, '/': true, '\n': true}

// blankBraces appends Go source src to dst with every outermost pair of braces
// emptied but for its line ends: function and struct bodies, composite
// literals. All of them may be empty in Go's grammar, so what remains parses as
// src does, in the same lines, at a fraction of the cost. It returns false when
// src is not lexically sound, and then dst is of no use.
func blankBraces(dst, src []byte) ([]byte, bool) {
	depth, from := 0, 0
	for i := 0; i < len(src); {
		c := src[i]
		if !lexical[c] {
			i++
			continue
		}
		end := i + 1
		switch c {
		case '{':
			if depth == 0 {
				dst = append(dst, src[from:end]...)
			}
			depth++
		case '}':
			if depth--; depth < 0 {
				return dst, false
			}
			if depth == 0 {
				from = i
			}
		case '\n':
			if depth > 0 {
				dst = append(dst, '\n')
			}
		default:
			if end = lexeme(src, i); end < 0 {
				return dst, false
			}
			if depth > 0 && (c == '`' || c == '/') {
				dst = appendLineEnds(dst, src[i:end])
			}
		}
		i = end
	}
	return append(dst, src[from:]...), depth == 0
}

// lexeme returns where the string, rune, comment or operator at src[i] ends, or
// -1 when it does not.
func lexeme(src []byte, i int) int {
	switch src[i] {
	case '`':
		return after(src, i+1, "`")
	case '/':
		switch {
		case i+1 < len(src) && src[i+1] == '/':
			if n := bytes.IndexByte(src[i:], '\n'); n >= 0 {
				return i + n // the line end counts for itself
			}
			return len(src)
		case i+1 < len(src) && src[i+1] == '*':
			return after(src, i+2, "*/")
		}
		return i + 1
	}
	return quoted(src, i)
}

// after returns the end of the first mark in src[i:], or -1.
func after(src []byte, i int, mark string) int {
	n := bytes.Index(src[i:], []byte(mark))
	if n < 0 {
		return -1
	}
	return i + n + len(mark)
}

// quoted returns the end of the string or rune that opens at src[i], or -1.
func quoted(src []byte, i int) int {
	quote := src[i]
	for i++; i < len(src); i++ {
		switch src[i] {
		case quote:
			return i + 1
		case '\\':
			i++
		case '\n':
			return -1
		}
	}
	return -1
}

// appendLineEnds appends as many line ends as text has.
func appendLineEnds(dst, text []byte) []byte {
	for range bytes.Count(text, []byte{'\n'}) {
		dst = append(dst, '\n')
	}
	return dst
}
