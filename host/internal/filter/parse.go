package filter

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a filter.
const (
	MaxLength     = 2048 // bytes
	MaxDepth      = 16   // parentheses and NOTs within each other
	MaxConditions = 64
	MaxKeys       = 4 // of an order
)

// Op is how a condition compares.
type Op string

// The operators.
const (
	Equal    Op = "="
	Unequal  Op = "!="
	Less     Op = "<"
	AtMost   Op = "<="
	Greater  Op = ">"
	AtLeast  Op = ">="
	Contains Op = ":"
)

// Node is a filter or a part of one: exactly one of its fields is set. A nil
// Node lets everything pass.
type Node struct {
	All       []*Node // every one holds; at least two
	Any       []*Node // one of them holds; at least two
	Not       *Node
	Condition *Condition
}

// Condition compares a field with a value.
type Condition struct {
	Field *Field
	Op    Op
	// Number of the kinds Number, Time and Ranked, as in [Value].
	Number int64
	// Parts of all other kinds: the literal texts between asterisks; one where
	// there is no asterisk. Only Equal and Unequal of Text and Path, and
	// Contains of List, have more.
	Parts []string
}

// Parse reads a filter; nil for one that is empty. An error is an [*Error].
func Parse(input string, schema Schema) (*Node, error) {
	if len(input) > MaxLength {
		return nil, &Error{Input: input[:0], Column: 1, Problem: "the filter is longer than " + strconv.Itoa(MaxLength) + " bytes"}
	}
	if !utf8.ValidString(input) {
		return nil, &Error{Input: strings.ToValidUTF8(input, "?"), Column: 1, Problem: "the filter is not UTF-8"}
	}
	p := &parser{lexer: lexer{input: input}, schema: schema}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.now.kind == end {
		return nil, nil
	}
	n, err := p.any(0)
	if err != nil {
		return nil, err
	}
	if p.now.kind != end {
		return nil, p.problem("expected AND, OR or the end, found %s", p.found())
	}
	return n, nil
}

type parser struct {
	lexer
	schema     Schema
	now        token
	conditions int
}

func (p *parser) advance() (err error) {
	p.now, err = p.next()
	return err
}

func (p *parser) problem(format string, args ...any) error {
	return problem(p.input, p.now.at, format, args...)
}

func (p *parser) found() string {
	if p.now.kind == end {
		return "the end"
	}
	return strconv.Quote(p.now.text)
}

func (p *parser) keyword(name string) bool { return p.now.kind == word && p.now.text == name }

func (p *parser) any(depth int) (*Node, error) {
	all, err := p.several("OR", depth, p.all)
	if err != nil || len(all) == 1 {
		return first(all), err
	}
	return &Node{Any: all}, nil
}

func (p *parser) all(depth int) (*Node, error) {
	all, err := p.several("AND", depth, p.one)
	if err != nil || len(all) == 1 {
		return first(all), err
	}
	return &Node{All: all}, nil
}

func first(all []*Node) *Node {
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

// several reads parts that a keyword joins.
func (p *parser) several(keyword string, depth int, part func(int) (*Node, error)) ([]*Node, error) {
	var all []*Node
	for {
		n, err := part(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
		if !p.keyword(keyword) {
			return all, nil
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
}

func (p *parser) one(depth int) (*Node, error) {
	if depth > MaxDepth {
		return nil, p.problem("more than %d levels within each other", MaxDepth)
	}
	switch {
	case p.keyword("NOT"):
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := p.one(depth + 1)
		return &Node{Not: n}, err
	case p.now.kind == open:
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := p.any(depth + 1)
		if err != nil {
			return nil, err
		}
		if p.now.kind != closed {
			return nil, p.problem("expected AND, OR or a closing parenthesis, found %s", p.found())
		}
		return n, p.advance()
	}
	return p.condition()
}

func (p *parser) condition() (*Node, error) {
	if p.conditions++; p.conditions > MaxConditions {
		return nil, p.problem("more than %d conditions", MaxConditions)
	}
	if p.now.kind != word {
		return nil, p.problem("expected a field, found %s", p.found())
	}
	f := p.schema.find(p.now.text)
	if f == nil {
		return nil, p.problem("there is no field %q; the fields are %s", p.now.text, p.schema.names())
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.now.kind != operator || !slices.Contains(f.operators(), p.now.text) {
		return nil, p.problem("expected an operator of %s, one of %s, found %s", f.Name, strings.Join(f.operators(), " "), p.found())
	}
	c := &Condition{Field: f, Op: Op(p.now.text)}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.now.kind != word && p.now.kind != quoted {
		return nil, p.problem("expected a value, found %s", p.found())
	}
	if err := p.value(c); err != nil {
		return nil, err
	}
	return &Node{Condition: c}, p.advance()
}

// value reads the token at hand as the value of a condition.
func (p *parser) value(c *Condition) error {
	texts, err := parts(p.input, p.now)
	if err != nil {
		return err
	}
	text := strings.Join(texts, "*")
	switch c.Field.Kind {
	case Word, Ranked:
		rank := slices.Index(c.Field.Words, text)
		if rank < 0 {
			return p.problem("%s is one of %s", c.Field.Name, strings.Join(c.Field.Words, ", "))
		}
		c.Parts, c.Number = []string{text}, int64(rank)+1
	case Number:
		if c.Number, err = strconv.ParseInt(text, 10, 64); err != nil {
			return p.problem("%s is a whole number", c.Field.Name)
		}
	case Time:
		at, err := parseTime(text)
		if err != nil {
			return p.problem("%s is a time such as \"2026-03-04T12:00:00Z\" or 2026-03-04", c.Field.Name)
		}
		c.Number = at.UnixNano()
	case Text, Path, List:
		if c.Op == Contains && c.Field.Kind != List && len(texts) > 1 {
			return p.problem(`an asterisk stands for any text with = and != only; put \* for the character`)
		}
		c.Parts = texts
	}
	return nil
}

// parseTime reads what fits in nanoseconds since 1970.
func parseTime(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		at, err = time.Parse(time.DateOnly, text)
	}
	if err == nil && (at.Year() < 1700 || at.Year() > 2200) {
		err = strconv.ErrRange
	}
	return at, err
}

// Key is one key of an order.
type Key struct {
	Field      *Field
	Descending bool
}

// ParseOrder reads "severity desc, path"; nil for one that is empty. An error
// is an [*Error].
func ParseOrder(input string, schema Schema) ([]Key, error) {
	switch {
	case len(input) > MaxLength:
		return nil, &Error{Column: 1, Problem: "the order is longer than " + strconv.Itoa(MaxLength) + " bytes"}
	case !utf8.ValidString(input):
		return nil, &Error{Input: strings.ToValidUTF8(input, "?"), Column: 1, Problem: "the order is not UTF-8"}
	case strings.TrimSpace(input) == "":
		return nil, nil
	}
	var keys []Key
	at := 0
	for part := range strings.SplitSeq(input, ",") {
		k, err := parseKey(input, part, at, schema)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(keys, func(other Key) bool { return other.Field == k.Field }) {
			return nil, problem(input, at, "%s stands there twice", k.Field.Name)
		}
		if keys = append(keys, k); len(keys) > MaxKeys {
			return nil, problem(input, at, "more than %d keys", MaxKeys)
		}
		at += len(part) + 1
	}
	return keys, nil
}

func parseKey(input, part string, at int, schema Schema) (Key, error) {
	words := strings.Fields(part)
	at += len(part) - len(strings.TrimLeft(part, " \t\n\r\v\f"))
	at = min(at, len(input))
	if len(words) == 0 {
		return Key{}, problem(input, at, "expected a field")
	}
	f := schema.find(words[0])
	if f == nil || f.Kind == List {
		return Key{}, problem(input, at, "there is no field %q to order by; the fields are %s", words[0], schema.names())
	}
	switch {
	case len(words) == 1, len(words) == 2 && words[1] == "asc":
		return Key{Field: f}, nil
	case len(words) == 2 && words[1] == "desc":
		return Key{Field: f, Descending: true}, nil
	}
	return Key{}, problem(input, at, `expected "asc", "desc" or a comma after %s`, f.Name)
}
