package main

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// maxText is how many runes of a marker's text a message holds.
const maxText = 120

// markers finds marker words.
type markers struct{ words [][]byte }

func newMarkers(words []string) *markers {
	m := &markers{}
	for _, w := range words {
		m.words = append(m.words, []byte(w))
	}
	return m
}

// mark is a marker with what it says.
type mark struct {
	word, owner, text string
	// leads says that the marker begins the comment or is followed by a colon
	// or an owner, as one is that is meant so.
	leads bool
}

// in says whether src holds one of the words anywhere.
func (m *markers) in(src []byte) bool {
	for _, w := range m.words {
		if bytes.Contains(src, w) {
			return true
		}
	}
	return false
}

// find returns the first marker in one line of a comment.
func (m *markers) find(line []byte) (mark, bool) {
	best := -1
	var word []byte
	for _, w := range m.words {
		if i := indexWord(line, w); i >= 0 && (best < 0 || i < best) {
			best, word = i, w
		}
	}
	if best < 0 {
		return mark{}, false
	}
	rest := line[best+len(word):]
	out := mark{word: string(word)}
	if len(rest) > 0 && rest[0] == '(' {
		if end := bytes.IndexByte(rest, ')'); end > 0 {
			out.owner = plain(rest[1:end])
			rest = rest[end+1:]
			out.leads = true
		}
	}
	out.leads = out.leads || bytes.HasPrefix(rest, []byte(":")) || !bytes.ContainsFunc(line[:best], isWordRune)
	if bytes.HasPrefix(rest, []byte(",")) && (!out.leads || m.leadsWithWord(rest[1:])) {
		return mark{}, false // a list of words, in a sentence about them
	}
	out.text = plain(bytes.TrimLeft(rest, ":-–— \t"))
	return out, true
}

// leadsWithWord says whether text begins with one of the words.
func (m *markers) leadsWithWord(text []byte) bool {
	text = bytes.TrimLeft(text, " \t")
	for _, w := range m.words {
		if bytes.HasPrefix(text, w) {
			return true
		}
	}
	return false
}

// indexWord returns where line holds word as a whole one that is used and not
// only mentioned, or -1.
func indexWord(line, word []byte) int {
	for from := 0; ; {
		i := bytes.Index(line[from:], word)
		if i < 0 {
			return -1
		}
		i += from
		end := i + len(word)
		if isWhole(line[:i], line[end:]) {
			return i
		}
		from = end
	}
}

// isWhole judges a word by what stands on either side.
func isWhole(before, after []byte) bool {
	b, _ := utf8.DecodeLastRune(before)
	a, n := utf8.DecodeRune(after)
	if len(before) == 0 {
		b = ' '
	}
	if len(after) == 0 {
		a = ' '
	}
	if isWordRune(b) || isWordRune(a) {
		return false
	}
	if strings.ContainsRune("\"'`", b) && a == b || b == '$' || b == '%' {
		return false // quoted, or a variable
	}
	// Joined to another word it is part of a name, a pattern or a list.
	joinedAfter, _ := utf8.DecodeRune(after[min(n, len(after)):])
	if strings.ContainsRune("-./", a) && isWordRune(joinedAfter) {
		return false
	}
	if strings.ContainsRune("-./", b) {
		joinedBefore, _ := utf8.DecodeLastRune(before[:len(before)-1])
		return !isWordRune(joinedBefore)
	}
	return true
}

func isWordRune(r rune) bool {
	return r == '_' || r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// plain makes text for people of a part of a comment.
func plain(text []byte) string {
	s := strings.ToValidUTF8(string(text), "\uFFFD")
	s = strings.TrimSpace(strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(s), "*/"), "-->"))
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > maxText {
		s = string([]rune(s)[:maxText-1]) + "…"
	}
	return s
}

// comment reports the markers in a comment that begins on a line. symbol names
// what encloses a line; it may be nil.
func (r *report) comment(line int, text []byte, symbol func(line int) string) {
	if !r.set.markers.in(text) {
		return
	}
	for l := range bytes.Lines(text) {
		if m, ok := r.set.markers.find(l); ok {
			r.marker(line, m, symbol)
		}
		line++
	}
}

// marker reports one.
func (r *report) marker(line int, m mark, symbol func(line int) string) {
	f := &pluginv1.Finding{
		Rule:       ruleMarker,
		Severity:   pluginv1.Severity_SEVERITY_LOW,
		Confidence: pluginv1.Confidence_CONFIDENCE_HIGH,
		Location:   &pluginv1.Location{Line: int32(line), EndLine: int32(line)},
		Message:    m.word + " in a comment",
		Remedy:     "Do what the comment asks for and delete it, or move it to where work is planned.",
		Properties: map[string]string{"marker": m.word},
	}
	if m.word == "FIXME" || m.word == "XXX" {
		f.Severity = pluginv1.Severity_SEVERITY_MEDIUM
	}
	if !m.leads {
		f.Confidence = pluginv1.Confidence_CONFIDENCE_MEDIUM
	}
	if m.owner != "" {
		f.Properties["owner"] = m.owner
		f.Message = fmt.Sprintf("%s(%s) in a comment", m.word, m.owner)
	}
	if m.text != "" {
		f.Message += ": " + m.text
	} else {
		f.Message += "."
	}
	if symbol != nil {
		f.Location.Symbol = symbol(line)
	}
	r.src.Report(f)
}
