package policy

import (
	"fmt"
	"slices"
	"strings"
)

// A Diagnostic is one problem with a policy or a test case. Lines and columns
// count from one, the end is exclusive, and columns count characters; a Line of
// zero means the whole file, an empty File nothing in particular.
type Diagnostic struct {
	Summary   string
	Detail    string
	File      string
	Line      int
	Column    int
	EndLine   int
	EndColumn int
	Snippet   string // the line of source at Line
}

// String returns the diagnostic on one line.
func (d Diagnostic) String() string {
	place := d.File
	if d.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", d.File, d.Line, d.Column)
	}
	text := d.Summary
	if place != "" {
		text = place + ": " + text
	}
	if d.Detail != "" {
		text += "; " + d.Detail
	}
	return text
}

// mostDiagnostics is how many problems are reported at once.
const mostDiagnostics = 50

// Diagnostics are the problems found by one operation, sorted by place; none where
// all is well.
type Diagnostics []Diagnostic //nolint:errname // a list, which may be empty

// Error returns all of them, one a line.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// tidy sorts by place, drops repeats and bounds the number.
func (ds Diagnostics) tidy() Diagnostics {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	ds = slices.Compact(ds)
	if more := len(ds) - mostDiagnostics; more > 0 {
		ds = append(ds[:mostDiagnostics:mostDiagnostics], Diagnostic{Summary: fmt.Sprintf("There are %d more problems", more)})
	}
	return ds
}

// whole is a problem with a file as a whole.
func whole(file, summary, format string, args ...any) Diagnostic {
	return Diagnostic{Summary: summary, Detail: fmt.Sprintf(format, args...), File: file}
}
