package scaffold

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// joiner stands for a space at which no line is broken.
const joiner = '\u00a0'

// unbroken keeps text on one line.
func unbroken(text string) string { return strings.ReplaceAll(text, " ", string(joiner)) }

// fill breaks words into lines of at most width columns, the first after
// indent, the rest after hanging.
func fill(text, indent, hanging string, width int) []string {
	var out []string
	line, empty := indent, true
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\n' || r == '\t' }) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			out = append(out, line)
			line, empty = hanging, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	if !empty {
		out = append(out, line)
	}
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], string(joiner), " ")
	}
	return out
}

// paragraphs cuts text at empty lines.
func paragraphs(text string) []string {
	var all []string
	var open []string
	for line := range strings.Lines(text + "\n\n") {
		line = strings.Trim(line, " \t\r\n")
		if line != "" {
			open = append(open, line)
			continue
		}
		if len(open) > 0 {
			all = append(all, strings.Join(open, " "))
			open = nil
		}
	}
	return all
}

// lineEnd is how lines of content end: as its first does.
func lineEnd(content []byte) string {
	if i := bytes.IndexByte(content, '\n'); i > 0 && content[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// lineStart is where the line of an offset begins.
func lineStart(content []byte, offset int) int {
	return bytes.LastIndexByte(content[:offset], '\n') + 1
}

// isSpace says whether text is white space only.
func isSpace(text []byte) bool { return len(bytes.TrimSpace(text)) == 0 }

// splice returns content with text in place of content[from:to].
func splice(content []byte, from, to int, text string) []byte {
	out := make([]byte, 0, len(content)+len(text))
	out = append(out, content[:from]...)
	out = append(out, text...)
	return append(out, content[to:]...)
}
