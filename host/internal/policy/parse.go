package policy

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	internalast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// A Policy is one policy of a Set.
type Policy struct {
	// ID is what its @id annotation says, or else file:line. No two policies
	// of a Set have the same.
	ID string
	// Effect is "permit" or "forbid".
	Effect string
	// File is the name of the file within the Source of the set.
	File   string
	Line   int
	Column int
	// Text as it stands in the file.
	Text string

	compiled *cedar.Policy
	tokens   []token
}

// Place is where it stands, as file:line.
func (p *Policy) Place() string { return place(p.File, p.Line) }

// String returns the id and, where that says something else, the place.
func (p *Policy) String() string {
	if p.ID == p.Place() {
		return p.ID
	}
	return p.ID + " (" + p.Place() + ")"
}

// ast returns the syntax tree, which must not be changed.
func (p *Policy) ast() *internalast.Policy { return (*internalast.Policy)(p.compiled.AST()) }

// parse returns the policies of a file.
func (s *source) parse() ([]*Policy, *Diagnostic) {
	list, err := cedar.NewPolicyListFromBytes(s.Name, s.Text)
	if err != nil {
		d := s.syntaxError(err.Error())
		return nil, &d
	}
	var out []*Policy
	for i, c := range list {
		at := c.Position()
		until := len(s.Text)
		if i+1 < len(list) {
			until = list[i+1].Position().Offset
		}
		p := &Policy{Effect: "forbid", File: filepath.Base(s.Name), Line: at.Line, Column: at.Column, compiled: c, tokens: s.between(at.Offset, until)}
		if c.Effect() == cedar.Permit {
			p.Effect = "permit"
		}
		if n := len(p.tokens); n > 0 {
			p.Text = string(s.Text[p.tokens[0].offset:p.tokens[n-1].end()])
		}
		p.ID = p.Place()
		if id := string(c.Annotations()["id"]); id != "" {
			p.ID = id
		}
		out = append(out, p)
	}
	return out, nil
}

var (
	syntaxPlace    = regexp.MustCompile(`<input>:(\d+):(\d+)(?: "(?:[^"\\]|\\.)*")?: `)
	syntaxExact    = regexp.MustCompile(`^exact got (.*) want (.*)$`)
	syntaxEffect   = regexp.MustCompile(`^unexpected effect: (.*)$`)
	effectKeywords = []string{"permit", "forbid"}
)

// syntaxError places what the parser says. It counts on to the token after the
// one that it does not like where it had taken that already.
func (s *source) syntaxError(message string) Diagnostic {
	m := syntaxPlace.FindStringSubmatchIndex(message)
	if m == nil {
		return whole(s.Name, "Not a policy", "%s.", sentence(strings.TrimPrefix(message, "parser error: ")))
	}
	line, _ := strconv.Atoi(message[m[2]:m[3]])
	column, _ := strconv.Atoi(message[m[4]:m[5]])
	what := message[m[1]:]
	i := slices.IndexFunc(s.tokens, func(t token) bool { return t.line > line || t.line == line && t.column >= column })
	if i < 0 {
		i = len(s.tokens)
	}
	const summary = "Not a policy"
	if got := syntaxExact.FindStringSubmatch(what); got != nil {
		t := s.previous(i, got[1])
		if got[1] == "" {
			return s.at(t, t, summary, "The file ends where %q is expected.", got[2])
		}
		return s.at(t, t, summary, "%q is expected here, not %q.", got[2], got[1])
	}
	if got := syntaxEffect.FindStringSubmatch(what); got != nil {
		t := s.previous(i, got[1])
		return s.at(t, t, summary, "A policy begins with permit or forbid, not with %q.%s", got[1], didYouMean(got[1], effectKeywords))
	}
	t := s.previous(i, "")
	if i < len(s.tokens) {
		t = s.tokens[i]
	}
	return s.at(t, t, summary, "%s.", sentence(what))
}

// previous returns the last token before the one at i, or the one at i, that
// reads text; without text, simply the last.
func (s *source) previous(i int, text string) token {
	for j := min(i, len(s.tokens)-1); j >= max(0, i-2); j-- {
		if text != "" && s.tokens[j].text == text {
			return s.tokens[j]
		}
	}
	if len(s.tokens) == 0 {
		return token{text: " ", line: 1, column: 1}
	}
	return s.tokens[max(0, min(i, len(s.tokens))-1)]
}
