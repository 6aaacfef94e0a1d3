package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/sdk"
)

// column is how a field of a list is written in SQL. It is text of ours, never
// of a caller; each ? in it stands for the next of args.
type column struct {
	text string
	args []any
}

// columns are the fields of one list.
type columns map[string]column

func plainColumns(fields filter.Schema, except columns) columns {
	out := make(columns, len(fields))
	for _, f := range fields {
		out[f.Name] = column{text: f.Name}
		if c, other := except[f.Name]; other {
			out[f.Name] = c
		}
	}
	return out
}

// where appends a filter as a condition in parentheses. It is true exactly for
// what [filter.Node.Match] lets pass; a nil filter is true.
func (q *query) where(n *filter.Node, cols columns) {
	switch {
	case n == nil:
		q.add("1 = 1")
	case n.All != nil:
		q.parts(n.All, " AND ", cols)
	case n.Any != nil:
		q.parts(n.Any, " OR ", cols)
	case n.Not != nil:
		q.add("NOT (")
		q.where(n.Not, cols)
		q.add(")")
	default:
		q.condition(n.Condition, cols[n.Condition.Field.Name])
	}
}

func (q *query) parts(parts []*filter.Node, joint string, cols columns) {
	q.add("(")
	for i, part := range parts {
		if i > 0 {
			q.add(joint)
		}
		q.where(part, cols)
	}
	q.add(")")
}

func (q *query) condition(c *filter.Condition, col column) {
	q.add("(")
	if c.Field.Absent { // a comparison with NULL is neither true nor false
		q.add(col.text+" IS NOT NULL AND ", col.args...)
	}
	switch c.Field.Kind {
	case filter.Ranked, filter.Number, filter.Time:
		q.add(col.text+" "+string(c.Op)+" ?", append(col.args[:len(col.args):len(col.args)], c.Number)...)
	case filter.List:
		q.add("EXISTS (SELECT 1 FROM json_each(CASE WHEN "+col.text+" = '' THEN '[]' ELSE "+col.text+" END) AS element WHERE ", append(col.args, col.args...)...)
		q.like(c, column{text: "element.value"})
		q.add(")")
	default:
		q.textual(c, col)
	}
	q.add(")")
}

func (q *query) textual(c *filter.Condition, col column) {
	switch {
	case c.Op != filter.Contains:
		q.like(c, col)
	case c.Field.Kind == filter.Path:
		q.beneath(col, c.Parts[0])
	default:
		q.add("instr("+col.text+", ?) > 0", append(col.args[:len(col.args):len(col.args)], c.Parts[0])...)
	}
}

// beneath appends that a path is the one given or lies beneath it.
func (q *query) beneath(col column, path string) {
	dir := filter.Directory(path)
	if dir == "" {
		q.add("1 = 1")
		return
	}
	q.add("("+col.text+" = ? OR "+col.text+" >= ? AND "+col.text+" < ?)", dir, dir+"/", dir+"0") // '0' follows '/'
}

// like appends = or GLOB, or their negation.
func (q *query) like(c *filter.Condition, col column) {
	op, value := "=", c.Parts[0]
	if len(c.Parts) > 1 {
		op, value = "GLOB", glob(c.Parts)
	}
	text := col.text + " " + op + " ?"
	if c.Op == filter.Unequal {
		text = "NOT (" + text + ")"
	}
	q.add(text, append(col.args[:len(col.args):len(col.args)], value)...)
}

// glob is the pattern of literal texts with anything between them.
func glob(parts []string) string {
	literal := strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]")
	escaped := make([]string, len(parts))
	for i, p := range parts {
		escaped[i] = literal.Replace(p)
	}
	return strings.Join(escaped, "*")
}

// leastNumber stands for no value where rows are ordered.
const leastNumber = math.MinInt64

func ordered(k filter.Key, cols columns) column {
	c := cols[k.Field.Name]
	if k.Field.Absent {
		c.text = "coalesce(" + c.text + ", -9223372036854775808)"
	}
	return c
}

// order appends the clause; the last key makes the order total.
func (q *query) order(keys []filter.Key, cols columns) {
	q.add(" ORDER BY ")
	for i, k := range keys {
		if i > 0 {
			q.add(", ")
		}
		c := ordered(k, cols)
		q.add(c.text, c.args...)
		if k.Descending {
			q.add(" DESC")
		}
	}
}

// after appends the condition of what comes after a row with the values.
func (q *query) after(keys []filter.Key, cols columns, values []any) {
	for i, k := range keys {
		c, beyond := ordered(k, cols), " > ?"
		if k.Descending {
			beyond = " < ?"
		}
		args := slices.Concat(c.args, []any{values[i]})
		q.add("("+c.text+beyond, args...)
		if i < len(keys)-1 {
			q.add(" OR ("+c.text+" = ? AND ", args...)
		}
	}
	q.add(strings.Repeat(")", 2*len(keys)-1))
}

// total is an order that has an end: keys, and then the field that no two rows
// share.
func total(keys []filter.Key, usual []filter.Key) []filter.Key {
	unique := usual[len(usual)-1]
	if len(keys) == 0 {
		return usual
	}
	for i, k := range keys {
		if k.Field.Name == unique.Field.Name {
			return keys[:i+1]
		}
	}
	return append(keys[:len(keys):len(keys)], unique)
}

func isNumber(f *filter.Field) bool {
	return f.Kind == filter.Ranked || f.Kind == filter.Number || f.Kind == filter.Time
}

// nextPage is the token of the page after a row.
func nextPage(keys []filter.Key, value func(string) filter.Value) (string, error) {
	values := make([]any, len(keys))
	for i, k := range keys {
		switch v := value(k.Field.Name); {
		case v.Absent:
			values[i] = int64(leastNumber)
		case isNumber(k.Field):
			values[i] = v.Number
		default:
			values[i] = []byte(v.Text) // need not be UTF-8
		}
	}
	text, err := json.Marshal(values)
	return base64.RawURLEncoding.EncodeToString(text), err
}

// readPage reads a token of nextPage for the same keys.
func readPage(token string, keys []filter.Key) ([]any, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	var raw []json.RawMessage
	if err == nil {
		err = json.Unmarshal(text, &raw)
	}
	if err == nil && len(raw) != len(keys) {
		err = errors.New("it is of another order")
	}
	values := make([]any, len(keys))
	for i := 0; err == nil && i < len(keys); i++ {
		if isNumber(keys[i].Field) {
			var n int64
			err = json.Unmarshal(raw[i], &n)
			values[i] = n
			continue
		}
		var b []byte
		err = json.Unmarshal(raw[i], &b)
		values[i] = string(b)
	}
	if err != nil {
		return nil, sdk.Errorf(codes.InvalidArgument, "PAGE_TOKEN", "page token is not one that was given out: %w", err).
			WithRemedy("list again from the first page").WithField("page_token", "")
	}
	return values, nil
}

// total is how many rows of a table pass the condition that q is: those of the
// first page where there is no other, else counted, but not beyond most.
func (q *query) total(ctx context.Context, in querier, table string, first int, more bool, most int64) (int64, error) {
	if !more {
		return int64(first), nil
	}
	q.add(" LIMIT ?", most)
	return number(ctx, in, "SELECT count(*) FROM (SELECT 1 FROM "+table+" WHERE "+q.text.String()+")", q.args...)
}
