package filter

import "strings"

// Kind is what a field holds, and so what can be asked of it.
type Kind int

// The kinds. Every one knows = and !=.
const (
	// Text also knows : for "contains". An asterisk in a value of = and !=
	// stands for any text.
	Text Kind = iota + 1
	// Path is Text whose : means the file itself, or all beneath the directory.
	Path
	// Word is one of the field's words.
	Word
	// Ranked is one of the field's words, which ascend; it knows < <= > >=.
	Ranked
	// Number is whole; it knows < <= > >=.
	Number
	// Time is RFC 3339; it knows < <= > >=.
	Time
	// List knows : only, for "has an element"; an asterisk as in Text.
	List
)

// Field is something that a list can be narrowed or ordered by.
type Field struct {
	Name string
	Kind Kind
	// Words of the kinds Word and Ranked; those of Ranked ascend.
	Words []string
	// Absent says that there may be no value; no condition but its negation
	// holds for what has none, and it comes first in ascending order.
	Absent bool
}

func (f *Field) operators() []string {
	switch f.Kind {
	case Text, Path:
		return []string{"=", "!=", ":"}
	case Word:
		return []string{"=", "!="}
	case List:
		return []string{":"}
	}
	return []string{"=", "!=", "<", "<=", ">", ">="}
}

// Schema is the fields of one list. Names are unique.
type Schema []Field

func (s Schema) find(name string) *Field {
	for i := range s {
		if s[i].Name == name {
			return &s[i]
		}
	}
	return nil
}

func (s Schema) names() string {
	names := make([]string, len(s))
	for i, f := range s {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

// Value is what one item has in a field.
type Value struct {
	Absent bool
	Text   string   // of Text, Path and Word
	Number int64    // of Number; of Time in nanoseconds since 1970; of Ranked the rank, from 1
	List   []string // of List
}
