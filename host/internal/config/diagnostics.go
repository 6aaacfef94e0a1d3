package config

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
)

// A Severity says whether a Diagnostic makes its subject unusable.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// A Range is a stretch of a source file. Lines and columns count from one, the
// end is exclusive, and columns count characters as a reader sees them. The
// zero Range points nowhere; a Range with a File and no Line means the whole
// file.
type Range struct {
	File      string `json:"file,omitempty"`
	Line      int    `json:"line,omitempty"`
	Column    int    `json:"column,omitempty"`
	EndLine   int    `json:"end_line,omitempty"`
	EndColumn int    `json:"end_column,omitempty"`
}

// String returns the start of the range as "file:line:column", as far as it
// is known.
func (r Range) String() string {
	if r.Line == 0 {
		return r.File
	}
	return fmt.Sprintf("%s:%d:%d", r.File, r.Line, r.Column)
}

// A Diagnostic is one problem with the configuration, in words for people. It
// is plain data and carries the source line it is about, so it can be shown
// far from the file. Neither Summary nor Detail holds a configured secret, and
// Snippet is left out where the schema says the value is sensitive.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`
	Detail   string   `json:"detail,omitempty"`
	Range
	Snippet string `json:"snippet,omitempty"` // the line of source at Line
}

// String returns the diagnostic on one line: place, summary and detail.
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.File != "" {
		b.WriteString(d.Range.String() + ": ")
	}
	b.WriteString(d.Summary)
	if d.Detail != "" {
		b.WriteString("; " + d.Detail)
	}
	return clean(b.String())
}

// Diagnostics are the problems found by one operation, sorted by place.
type Diagnostics []Diagnostic //nolint:errname // a list that may hold warnings alone; named as hcl's

// HasErrors reports whether any diagnostic is an error rather than a warning.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// Err returns the diagnostics as an error when HasErrors, and nil otherwise.
func (ds Diagnostics) Err() error {
	if !ds.HasErrors() {
		return nil
	}
	return ds
}

// Error returns the first error on one line and how many more there are.
// Use Err to get an error value: a Diagnostics without errors is not one.
func (ds Diagnostics) Error() string {
	var first *Diagnostic
	count := 0
	for i := range ds {
		if ds[i].Severity != SeverityError {
			continue
		}
		if first == nil {
			first = &ds[i]
		}
		count++
	}
	switch count {
	case 0:
		return "no errors"
	case 1:
		return first.String()
	case 2:
		return first.String() + " (and 1 more error)"
	default:
		return fmt.Sprintf("%s (and %d more errors)", first.String(), count-1)
	}
}

// MarshalJSON writes an array, which is empty rather than null when there are
// no diagnostics.
func (ds Diagnostics) MarshalJSON() ([]byte, error) {
	if ds == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]Diagnostic(ds))
}

// WriteText writes the diagnostics for a terminal: summary, place, the source
// line with a line of carets beneath it, and the detail. With color it adds
// ANSI colours. A width above zero, in columns, wraps details and crops long
// source lines; zero leaves them as they are. It returns the first error of w.
func (ds Diagnostics) WriteText(w io.Writer, color bool, width int) error {
	p := textPrinter{color: color, width: width}
	for i, d := range ds {
		if i > 0 {
			p.out.WriteString("\n")
		}
		p.diagnostic(d)
	}
	if _, err := io.WriteString(w, p.out.String()); err != nil {
		return fmt.Errorf("write diagnostics: %w", err)
	}
	return nil
}

// textPrinter lays diagnostics out as text.
type textPrinter struct {
	out   strings.Builder
	color bool
	width int
}

const (
	styleRed    = "\x1b[1;31m"
	styleYellow = "\x1b[1;33m"
	styleBold   = "\x1b[1m"
	styleReset  = "\x1b[0m"
)

func (p *textPrinter) styled(style, text string) string {
	if !p.color || text == "" {
		return text
	}
	return style + text + styleReset
}

func (p *textPrinter) diagnostic(d Diagnostic) {
	label, style := "Error", styleRed
	if d.Severity == SeverityWarning {
		label, style = "Warning", styleYellow
	}
	p.out.WriteString(p.styled(style, label+":") + " " + p.styled(styleBold, clean(d.Summary)) + "\n")
	if d.File != "" {
		p.out.WriteString("  on " + clean(d.Range.String()) + ":\n")
	}
	if d.Snippet != "" && d.Line > 0 {
		p.snippet(d, style)
	}
	if d.Detail != "" {
		p.out.WriteString("\n")
		for _, line := range wrap(clean(d.Detail), p.width-2) {
			p.out.WriteString("  " + line + "\n")
		}
	}
}

func (p *textPrinter) snippet(d Diagnostic, style string) {
	number := strconv.Itoa(d.Line)
	gutter := 4 + len(number) + len(" | ")
	before, marked, after := markedParts(d)
	if p.width > gutter {
		before, marked, after = crop(before, marked, after, p.width-gutter)
	}
	p.out.WriteString("    " + number + " | " + before + p.styled(style, marked) + after + "\n")
	blank := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, visible(before))
	carets := strings.Repeat("^", max(1, len([]rune(visible(marked)))))
	p.out.WriteString("    " + strings.Repeat(" ", len(number)) + " | " + blank + p.styled(style, carets) + "\n")
}

// markedParts splits the snippet around the columns of d's range. A range
// that ends on a later line is marked up to the end of its first.
func markedParts(d Diagnostic) (before, marked, after string) {
	line := clean(d.Snippet)
	start := columnOffset(line, d.Column)
	end := len(line)
	if d.EndLine <= d.Line {
		end = max(start, columnOffset(line, d.EndColumn))
	}
	return line[:start], line[start:end], line[end:]
}

// columnOffset returns the byte offset at which the given column, counted
// from one, starts in line.
func columnOffset(line string, column int) int {
	seen := 0
	for i, r := range line {
		if !joins(r) {
			seen++
		}
		if seen >= column && !joins(r) {
			return i
		}
	}
	return len(line)
}

// joins reports whether r is drawn in the same place as the character before
// it.
func joins(r rune) bool {
	return r == '\u200d' || unicode.In(r, unicode.Mn, unicode.Me)
}

// visible returns s without the runes that take no place of their own.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if joins(r) {
			return -1
		}
		return r
	}, s)
}

// crop shortens a line to room runes around its marked part.
func crop(before, marked, after string, room int) (string, string, string) {
	b, m, a := []rune(before), []rune(marked), []rune(after)
	if len(b)+len(m)+len(a) <= room {
		return before, marked, after
	}
	if len(m) > room-2 {
		m = m[:max(1, room-2)]
		a = []rune("…")
	}
	if spare := max(0, room-len(m)-1); len(b) > spare {
		keep := max(0, min(spare*2/3, spare-1))
		b = append([]rune("…"), b[len(b)-keep:]...)
	}
	if spare := max(0, room-len(b)-len(m)); len(a) > spare {
		a = append(slices.Clone(a[:max(0, spare-1)]), '…')
	}
	return string(b), string(m), string(a)
}

// wrap breaks each line of text at spaces so that it is at most width runes
// long where its words allow. A width below one only splits lines.
func wrap(text string, width int) []string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if width < 1 || len([]rune(line)) <= width {
			lines = append(lines, line)
			continue
		}
		current, length := "", 0
		for _, word := range strings.Fields(line) {
			size := len([]rune(word))
			if length > 0 && length+1+size > width {
				lines = append(lines, current)
				current, length = "", 0
			}
			if length > 0 {
				current, length = current+" ", length+1
			}
			current, length = current+word, length+size
		}
		lines = append(lines, current)
	}
	return lines
}

// clean replaces what could move a terminal's cursor or reorder its text,
// except tabs and line ends.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		default:
			return r
		}
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}

// reporter collects diagnostics while the configuration is read.
type reporter struct {
	suggester
	diags hcl.Diagnostics
}

func (r *reporter) report(diags ...*hcl.Diagnostic) {
	r.diags = append(r.diags, diags...)
}

// errorf reports an error at rng, which may be the zero Range.
func (r *reporter) errorf(rng hcl.Range, summary, format string, args ...any) {
	r.report(problem(rng, summary, format, args...))
}

func problem(rng hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...)}
	if rng.Filename != "" {
		d.Subject = &rng
	}
	return d
}

// sensitive, as a diagnostic's Extra, keeps its source line from being shown.
type sensitive struct{}

// finish turns what was collected into sorted Diagnostics without repeats.
// The snippets come from sources, by file name.
func finish(diags hcl.Diagnostics, sources map[string][]byte) Diagnostics {
	var out Diagnostics
	seen := make(map[Diagnostic]bool, len(diags))
	lines := make(map[string][]string)
	for _, d := range diags {
		converted := convertDiagnostic(d)
		if seen[converted] {
			continue
		}
		seen[converted] = true
		if _, hide := d.Extra.(sensitive); !hide {
			converted.Snippet = sourceLine(lines, sources, converted.File, converted.Line)
		}
		out = append(out, converted)
	}
	slices.SortStableFunc(out, func(a, b Diagnostic) int {
		switch {
		case a.File != b.File:
			return strings.Compare(a.File, b.File)
		case a.Line != b.Line:
			return a.Line - b.Line
		default:
			return a.Column - b.Column
		}
	})
	return out
}

func convertDiagnostic(d *hcl.Diagnostic) Diagnostic {
	out := Diagnostic{Severity: SeverityError, Summary: d.Summary, Detail: d.Detail}
	if d.Severity == hcl.DiagWarning {
		out.Severity = SeverityWarning
	}
	if d.Subject != nil {
		out.Range = publicRange(*d.Subject)
	}
	return out
}

func publicRange(r hcl.Range) Range {
	return Range{
		File: r.Filename,
		Line: r.Start.Line, Column: r.Start.Column,
		EndLine: r.End.Line, EndColumn: r.End.Column,
	}
}

// sourceLine returns a line of a source file, splitting each file only once.
func sourceLine(lines map[string][]string, sources map[string][]byte, file string, line int) string {
	source, known := sources[file]
	if !known || line < 1 {
		return ""
	}
	split, done := lines[file]
	if !done {
		split = strings.Split(string(source), "\n")
		lines[file] = split
	}
	if line > len(split) {
		return ""
	}
	const longest = 4096 // bytes; a diagnostic must stay small enough to send
	text := strings.TrimPrefix(strings.TrimSuffix(split[line-1], "\r"), "\ufeff")
	if len(text) > longest {
		text = text[:longest]
	}
	return strings.ToValidUTF8(text, string(unicode.ReplacementChar))
}

// failure turns an error that is about no particular place into Diagnostics.
func failure(file, summary string, err error) Diagnostics {
	return Diagnostics{{Severity: SeverityError, Summary: summary, Detail: capital(err.Error()), Range: Range{File: file}}}
}

// capital makes text start with a capital and end with a full stop.
func capital(text string) string {
	if text == "" {
		return ""
	}
	runes := []rune(text)
	runes[0] = unicode.ToUpper(runes[0])
	text = string(runes)
	if !strings.ContainsAny(text[len(text)-1:], ".?!") {
		text += "."
	}
	return text
}
