package filter

import (
	"cmp"
	"slices"
	"strings"
)

// Match says whether an item passes, of which value returns what stands in a
// field of the schema.
func (n *Node) Match(value func(field string) Value) bool {
	switch {
	case n == nil:
		return true
	case n.All != nil:
		return !slices.ContainsFunc(n.All, func(part *Node) bool { return !part.Match(value) })
	case n.Any != nil:
		return slices.ContainsFunc(n.Any, func(part *Node) bool { return part.Match(value) })
	case n.Not != nil:
		return !n.Not.Match(value)
	}
	return n.Condition.holds(value(n.Condition.Field.Name))
}

func (c *Condition) holds(v Value) bool {
	if v.Absent {
		return false
	}
	switch c.Field.Kind {
	case Ranked, Number, Time:
		return c.compares(cmp.Compare(v.Number, c.Number))
	case List:
		return slices.ContainsFunc(v.List, c.like)
	case Path:
		if c.Op == Contains {
			dir := Directory(c.Parts[0])
			return dir == "" || v.Text == dir || strings.HasPrefix(v.Text, dir+"/")
		}
	case Text:
		if c.Op == Contains {
			return strings.Contains(v.Text, c.Parts[0])
		}
	}
	return c.like(v.Text) == (c.Op != Unequal)
}

// Directory returns a path as it stands in a condition without what says that
// it is a directory; empty for the root.
func Directory(path string) string {
	if path = strings.TrimSuffix(path, "/"); path == "." {
		return ""
	}
	return path
}

func (c *Condition) compares(order int) bool {
	switch c.Op {
	case Equal:
		return order == 0
	case Unequal:
		return order != 0
	case Less:
		return order < 0
	case AtMost:
		return order <= 0
	case Greater:
		return order > 0
	}
	return order >= 0
}

// like matches the parts with any text between them.
func (c *Condition) like(text string) bool {
	last := len(c.Parts) - 1
	if last == 0 {
		return text == c.Parts[0]
	}
	text, ok := strings.CutPrefix(text, c.Parts[0])
	if !ok {
		return false
	}
	for _, part := range c.Parts[1:last] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, c.Parts[last])
}

// Compare orders two items by keys.
func Compare(keys []Key, x, y func(field string) Value) int {
	for _, k := range keys {
		order := compareValues(k.Field.Kind, x(k.Field.Name), y(k.Field.Name))
		if k.Descending {
			order = -order
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

func compareValues(kind Kind, x, y Value) int {
	switch {
	case x.Absent || y.Absent:
		return cmp.Compare(present(x), present(y))
	case kind == Ranked || kind == Number || kind == Time:
		return cmp.Compare(x.Number, y.Number)
	}
	return strings.Compare(x.Text, y.Text)
}

func present(v Value) int {
	if v.Absent {
		return 0
	}
	return 1
}
