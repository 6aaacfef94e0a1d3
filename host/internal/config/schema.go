package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// A Schema says what may stand in a plugin's config block. It comes from the
// plugin and is untrusted: use Validate before keeping one. The zero Schema
// allows nothing.
type Schema struct {
	Attributes []Attribute `json:"attributes,omitempty"`
	Blocks     []Block     `json:"blocks,omitempty"`
}

// An Attribute is one name = value of a block.
type Attribute struct {
	Name string `json:"name"`

	// Type is a type constraint in cty's JSON form, such as "string" or
	// ["list","string"], the quotes included.
	Type string `json:"type"`

	Required    bool            `json:"required,omitempty"`
	Description string          `json:"description,omitempty"`
	Default     json.RawMessage `json:"default,omitempty"`   // used when unset or null; empty for none
	Sensitive   bool            `json:"sensitive,omitempty"` // the value must not be shown
}

// A Block is a type of nested block.
type Block struct {
	Name     string  `json:"name"`
	Nesting  Nesting `json:"nesting"`
	MinItems int     `json:"min_items,omitempty"`
	MaxItems int     `json:"max_items,omitempty"` // zero: no limit
	Schema   *Schema `json:"schema,omitempty"`    // nil: an empty block
}

// A Nesting says how often a block may occur and how it is decoded.
type Nesting string

// The nestings.
const (
	NestingSingle Nesting = "single" // at most once, an object
	NestingList   Nesting = "list"   // an array of objects in the order of the source
	NestingMap    Nesting = "map"    // each with one label, an object of objects by label
)

// Limits on what a schema may contain.
const (
	maxSchemaDepth   = 16        // blocks within blocks, and types within types
	maxSchemaItems   = 1000      // attributes and blocks, nested ones included
	maxTypeLength    = 16 << 10  // bytes of one type
	maxDefaultLength = 64 << 10  // bytes of one default
	maxDescription   = 4 << 10   // bytes of one description
	maxSchemaText    = 512 << 10 // bytes of types and defaults taken together
)

var schemaName = newPattern(`^[A-Za-z_][A-Za-z0-9_-]{0,62}$`)

// Validate returns an error that says where and how the schema breaks the
// rules: unknown types, names that are invalid or taken, defaults that do not
// fit, and more than 1000 items or 16 levels. Its work is bounded for any
// schema, also for one that contains itself.
func (s *Schema) Validate() error {
	v := schemaCheck{}
	return v.schema(s, "", 1)
}

// schemaCheck is one validation; it counts what it has seen.
type schemaCheck struct {
	items int
	text  int
}

func (v *schemaCheck) schema(s *Schema, where string, depth int) error {
	if s == nil {
		return nil
	}
	if depth > maxSchemaDepth {
		return fmt.Errorf("%sblocks are nested more than %d deep", where, maxSchemaDepth)
	}
	names := make(map[string]bool)
	claim := func(name string) error {
		if v.items++; v.items > maxSchemaItems {
			return fmt.Errorf("%sthere are more than %d attributes and blocks", where, maxSchemaItems)
		}
		if !schemaName.MatchString(name) {
			return fmt.Errorf("%s%s is not a valid name", where, excerpt(name))
		}
		if names[name] {
			return fmt.Errorf("%sthe name %q occurs twice", where, name)
		}
		names[name] = true
		return nil
	}
	for i := range s.Attributes {
		attr := &s.Attributes[i]
		if err := claim(attr.Name); err != nil {
			return err
		}
		if err := v.attribute(attr); err != nil {
			return fmt.Errorf("%sattribute %q: %w", where, attr.Name, err)
		}
	}
	for i := range s.Blocks {
		b := &s.Blocks[i]
		if err := claim(b.Name); err != nil {
			return err
		}
		if err := b.validate(); err != nil {
			return fmt.Errorf("%sblock %q: %w", where, b.Name, err)
		}
		if err := v.schema(b.Schema, where+fmt.Sprintf("block %q: ", b.Name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (v *schemaCheck) attribute(a *Attribute) error {
	if v.text += len(a.Type) + len(a.Default); v.text > maxSchemaText {
		return fmt.Errorf("types and defaults take more than %s", formatSize(maxSchemaText))
	}
	if len(a.Description) > maxDescription || !utf8.ValidString(a.Description) {
		return fmt.Errorf("the description is longer than %s or not UTF-8", formatSize(maxDescription))
	}
	ty, err := parseType(a.Type)
	if err != nil {
		return err
	}
	if len(a.Default) == 0 {
		return nil
	}
	if a.Required {
		return errors.New("it is required and has a default")
	}
	_, err = a.defaultValue(ty)
	return err
}

func (b *Block) validate() error {
	switch b.Nesting {
	case NestingSingle, NestingList, NestingMap:
	default:
		return fmt.Errorf("%s is not a nesting", excerpt(string(b.Nesting)))
	}
	if b.MinItems < 0 || b.MaxItems < 0 || (b.MaxItems > 0 && b.MaxItems < b.MinItems) {
		return fmt.Errorf("from %d to %d is not a range of items", b.MinItems, b.MaxItems)
	}
	if b.Nesting == NestingSingle && (b.MinItems > 1 || b.MaxItems > 1) {
		return errors.New("a single block cannot occur more than once")
	}
	return nil
}

// defaultValue returns the default converted to ty.
func (a *Attribute) defaultValue(ty cty.Type) (cty.Value, error) {
	if len(a.Default) > maxDefaultLength {
		return cty.NilVal, fmt.Errorf("the default is longer than %s", formatSize(maxDefaultLength))
	}
	if !sensibleJSON(a.Default) {
		return cty.NilVal, errors.New("the default is not valid JSON, or too deep, or has too large a number")
	}
	implied, err := ctyjson.ImpliedType(a.Default)
	if err != nil {
		return cty.NilVal, errors.New("the default is not valid JSON")
	}
	value, err := ctyjson.Unmarshal(a.Default, implied)
	if err != nil {
		return cty.NilVal, errors.New("the default is not valid JSON")
	}
	value, err = convert.Convert(value, ty)
	if err != nil {
		return cty.NilVal, fmt.Errorf("the default does not fit the type: %w", err)
	}
	return value, nil
}

// sensibleJSON reports whether src is one JSON value that is neither deep nor
// has numbers that would fill the memory when written out.
func sensibleJSON(src []byte) bool {
	if !json.Valid(src) {
		return false
	}
	decoder := json.NewDecoder(bytes.NewReader(src))
	decoder.UseNumber()
	depth := 0
	for decoder.More() || depth > 0 {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
		case json.Number:
			if !sensibleNumber([]byte(t)) {
				return false
			}
		}
		if depth > maxSchemaDepth {
			return false
		}
	}
	return true
}

// parseType reads a type constraint in cty's JSON form. Unlike cty's own
// reader it bounds length and depth and never panics.
func parseType(text string) (cty.Type, error) {
	if len(text) > maxTypeLength {
		return cty.NilType, fmt.Errorf("the type is longer than %s", formatSize(maxTypeLength))
	}
	return readType(json.RawMessage(text), 1)
}

func readType(raw json.RawMessage, depth int) (cty.Type, error) {
	if depth > maxSchemaDepth {
		return cty.NilType, fmt.Errorf("the type is nested more than %d deep", maxSchemaDepth)
	}
	var name string
	if err := json.Unmarshal(raw, &name); err == nil {
		return primitiveType(name)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil || len(parts) < 2 {
		return cty.NilType, fmt.Errorf("%s is not a type", excerpt(string(raw)))
	}
	if err := json.Unmarshal(parts[0], &name); err != nil {
		return cty.NilType, fmt.Errorf("%s is not a type", excerpt(string(raw)))
	}
	switch {
	case name == "object":
		return readObjectType(parts[1:], depth)
	case len(parts) > 2:
		return cty.NilType, fmt.Errorf("%s is not a type", excerpt(string(raw)))
	case name == "tuple":
		return readTupleType(parts[1], depth)
	}
	element, err := readType(parts[1], depth+1)
	if err != nil {
		return cty.NilType, err
	}
	switch name {
	case "list":
		return cty.List(element), nil
	case "set":
		return cty.Set(element), nil
	case "map":
		return cty.Map(element), nil
	default:
		return cty.NilType, unknownType(name)
	}
}

func primitiveType(name string) (cty.Type, error) {
	switch name {
	case "string":
		return cty.String, nil
	case "number":
		return cty.Number, nil
	case "bool":
		return cty.Bool, nil
	case "dynamic":
		return cty.DynamicPseudoType, nil
	default:
		return cty.NilType, unknownType(name)
	}
}

func unknownType(name string) error {
	known := []string{"string", "number", "bool", "dynamic", "list", "set", "map", "object", "tuple"}
	return fmt.Errorf("there is no type %s.%s", excerpt(name), didYouMean(name, known))
}

func readTupleType(raw json.RawMessage, depth int) (cty.Type, error) {
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return cty.NilType, fmt.Errorf("%s is not a list of types", excerpt(string(raw)))
	}
	elements := make([]cty.Type, len(parts))
	for i, part := range parts {
		element, err := readType(part, depth+1)
		if err != nil {
			return cty.NilType, err
		}
		elements[i] = element
	}
	return cty.Tuple(elements), nil
}

// readObjectType reads the attributes and, optionally, the names of those that
// may be left out.
func readObjectType(parts []json.RawMessage, depth int) (cty.Type, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(parts[0], &raw); err != nil || len(parts) > 2 {
		return cty.NilType, fmt.Errorf("%s is not an object type", excerpt(string(parts[0])))
	}
	attributes := make(map[string]cty.Type, len(raw))
	for _, name := range sortedKeys(raw) {
		if name == "" {
			return cty.NilType, errors.New("an object type has an attribute without a name")
		}
		attribute, err := readType(raw[name], depth+1)
		if err != nil {
			return cty.NilType, err
		}
		attributes[name] = attribute
	}
	if len(parts) == 1 {
		return cty.Object(attributes), nil
	}
	var optional []string
	if err := json.Unmarshal(parts[1], &optional); err != nil {
		return cty.NilType, fmt.Errorf("%s is not a list of names", excerpt(string(parts[1])))
	}
	for _, name := range optional {
		if _, exists := attributes[name]; !exists {
			return cty.NilType, fmt.Errorf("the optional attribute %s does not exist", excerpt(name))
		}
	}
	return cty.ObjectWithOptionalAttrs(attributes, optional), nil
}

// excerpt quotes at most the start of untrusted text.
func excerpt(text string) string {
	const longest = 60
	if len(text) > longest {
		return fmt.Sprintf("%q...", text[:longest])
	}
	return fmt.Sprintf("%q", text)
}

// isSensitive reports whether path leads into a sensitive attribute. A path
// the schema does not know is not sensitive; nor is anything without a schema.
func (s *Schema) isSensitive(path []PathStep) bool {
	for s != nil && len(path) > 0 {
		for i := range s.Attributes {
			if s.Attributes[i].Name == path[0].Name {
				return s.Attributes[i].Sensitive
			}
		}
		s, path = s.nested(path)
	}
	return false
}

// nested follows one block step of path, with the label or index after it.
func (s *Schema) nested(path []PathStep) (*Schema, []PathStep) {
	for i := range s.Blocks {
		b := &s.Blocks[i]
		if b.Name != path[0].Name {
			continue
		}
		rest := path[1:]
		if len(rest) > 0 && (b.Nesting == NestingMap || rest[0].Name == "") {
			rest = rest[1:]
		}
		return b.Schema, rest
	}
	return nil, nil
}
