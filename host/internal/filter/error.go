package filter

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error says what is wrong with a filter or an order, and where.
type Error struct {
	Input   string
	Column  int // from 1, in characters
	Problem string
}

// Error returns the problem with its column.
func (e *Error) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Problem) }

// Snippet returns the input with a caret beneath the column, on two lines.
func (e *Error) Snippet() string {
	const before, after = 60, 20 // characters around the column
	text := []rune(strings.Map(plain, e.Input))
	from := max(0, e.Column-1-before)
	to := min(len(text), e.Column-1+after)
	return string(text[min(from, to):to]) + "\n" + strings.Repeat(" ", e.Column-1-from) + "^"
}

// plain replaces what would not stand in one column.
func plain(r rune) rune {
	if r < ' ' || r == 0x7f || r == utf8.RuneError {
		return '?'
	}
	return r
}

func problem(input string, at int, format string, args ...any) *Error {
	return &Error{Input: input, Column: utf8.RuneCountInString(input[:at]) + 1, Problem: fmt.Sprintf(format, args...)}
}
