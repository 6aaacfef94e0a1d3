package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Cedar's parser and type checker are recursive, and a Go stack that overflows
// ends the process; and the parser's syntax tree knows no places. So the text is
// cut into tokens here first: to refuse what is far deeper than anybody writes,
// and to find the place that a problem is about.
const (
	maxDepth     = 64    // brackets open at once
	maxPerPolicy = 1_000 // tokens in one policy
)

// token is one token of a file.
type token struct {
	text   string
	offset int // in bytes
	line   int
	column int // in characters
}

func (t token) end() int { return t.offset + len(t.text) }

// quoted says that the token is a text, and returns it as far as it has no
// escapes.
func (t token) quoted() (string, bool) {
	if len(t.text) < 2 || t.text[0] != '"' {
		return "", false
	}
	return t.text[1 : len(t.text)-1], true
}

// source is a file and its tokens.
type source struct {
	File
	lines  []string
	tokens []token
}

// newSource cuts a file into tokens, or says what keeps it from being read.
func newSource(f File) (*source, *Diagnostic) {
	s := &source{File: f, lines: strings.Split(string(f.Text), "\n")}
	if !utf8.Valid(f.Text) || strings.ContainsRune(string(f.Text), 0) {
		d := whole(f.Name, "Not a text", "Policies are written in UTF-8.")
		return nil, &d
	}
	s.tokens = tokenize(string(f.Text))
	if d := s.checkDepth(); d != nil {
		return nil, d
	}
	return s, nil
}

// checkDepth refuses what would need a very deep stack. Within a policy, what
// deepens without a bracket is bounded by its number of tokens.
func (s *source) checkDepth() *Diagnostic {
	depth, count := 0, 0
	for _, t := range s.tokens {
		count++
		switch t.text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth = max(0, depth-1)
		case ";":
			count = 0
		}
		if depth > maxDepth {
			d := s.at(t, t, "Nesting too deep", "Brackets may be nested at most %d deep.", maxDepth)
			return &d
		}
		if count > maxPerPolicy {
			d := s.at(t, t, "Policy too long", "A policy may have at most %d words and signs.", maxPerPolicy)
			return &d
		}
	}
	return nil
}

// at is a problem with the tokens from first to last.
func (s *source) at(first, last token, summary, format string, args ...any) Diagnostic {
	d := whole(s.Name, summary, format, args...)
	d.Line, d.Column, d.Snippet = first.line, first.column, s.snippet(first.line)
	d.EndLine, d.EndColumn = last.line, last.column+utf8.RuneCountInString(last.text)
	return d
}

func (s *source) snippet(line int) string {
	const longest = 4096
	if line < 1 || line > len(s.lines) {
		return ""
	}
	text := strings.TrimSuffix(s.lines[line-1], "\r")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "")
	}
	return text
}

// between returns the tokens from one offset to another.
func (s *source) between(from, to int) []token {
	var out []token
	for _, t := range s.tokens {
		if t.offset >= from && t.offset < to {
			out = append(out, t)
		}
	}
	return out
}

// tokenize never fails: what is no token of Cedar is one character of it, and
// for the parser to refuse.
func tokenize(text string) []token {
	var tokens []token
	line, column := 1, 1
	for i := 0; i < len(text); {
		n := tokenLength(text[i:])
		piece := text[i : i+n]
		if !blank(piece) {
			tokens = append(tokens, token{text: piece, offset: i, line: line, column: column})
		}
		if nl := strings.Count(piece, "\n"); nl > 0 {
			line += nl
			column = 1 + utf8.RuneCountInString(piece[strings.LastIndexByte(piece, '\n')+1:])
		} else {
			column += utf8.RuneCountInString(piece)
		}
		i += n
	}
	return tokens
}

// blank says that a piece is white space or a comment.
func blank(piece string) bool {
	return strings.HasPrefix(piece, "//") || strings.TrimSpace(piece) == ""
}

// tokenLength returns the length of what text starts with.
func tokenLength(text string) int {
	switch c := text[0]; {
	case strings.HasPrefix(text, "//"):
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			return end
		}
		return len(text)
	case c == '"':
		return stringLength(text)
	case isWord(c):
		n := 1
		for n < len(text) && isWord(text[n]) {
			n++
		}
		return n
	}
	for _, sign := range []string{"::", "==", "!=", "<=", ">=", "&&", "||"} {
		if strings.HasPrefix(text, sign) {
			return len(sign)
		}
	}
	_, n := utf8.DecodeRuneInString(text)
	return n
}

// stringLength returns the length of a quoted text; one that does not end goes
// to the end of the line.
func stringLength(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		case '\n':
			return i
		}
	}
	return len(text)
}

func isWord(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// place is file:line, as people find it.
func place(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }
