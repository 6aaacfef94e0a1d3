package config

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// DecodeConfig checks the plugin's config block against the schema, which may
// be nil for one that allows nothing, and returns it as a JSON object. The
// JSON is plain, without type wrappers. Attributes that are unset or null and
// have no default are left out, as are blocks that do not occur; so a plugin
// without a config block, whose schema has no defaults, gets "{}".
//
// The JSON is nil if and only if the diagnostics have errors. An invalid
// schema is such an error, reported at the plugin block.
func (p *Plugin) DecodeConfig(schema *Schema) ([]byte, Diagnostics) {
	if schema == nil {
		schema = &Schema{}
	}
	d := decoder{}
	if err := schema.Validate(); err != nil {
		d.errorf(p.attributeRange(nil), "Invalid plugin schema",
			"The schema that the plugin %s described is invalid: %s. This is a fault in the plugin.", p.ID(), err.Error())
		return nil, finish(d.diags, p.sources)
	}
	content := p.config
	if content == nil {
		content = &block{kind: "config", header: p.attributeRange(nil), body: &body{}}
		d.implied = true
	}
	value := d.object(schema, content)
	if d.diags.HasErrors() {
		return nil, finish(d.diags, p.sources)
	}
	encoded, err := ctyjson.Marshal(value, value.Type())
	if err != nil {
		d.errorf(content.header, "Cannot encode the configuration", "%s", capital(err.Error()))
		return nil, finish(d.diags, p.sources)
	}
	return encoded, finish(d.diags, p.sources)
}

// A decoder is one call of DecodeConfig.
type decoder struct {
	reporter
	implied bool // there is no config block in the source
}

// object decodes one block. Its schema may be nil and has been validated.
func (d *decoder) object(s *Schema, b *block) cty.Value {
	if s == nil {
		s = &Schema{}
	}
	d.names(s, b)
	values := make(map[string]cty.Value)
	for i := range s.Attributes {
		if value, ok := d.attribute(&s.Attributes[i], b); ok {
			values[s.Attributes[i].Name] = value
		}
	}
	for i := range s.Blocks {
		if value, ok := d.blocks(&s.Blocks[i], b); ok {
			values[s.Blocks[i].Name] = value
		}
	}
	return cty.ObjectVal(values)
}

// names reports what the schema does not know. Beside sensitive attributes the
// source is not shown, since a misspelt name may have a secret value.
func (d *decoder) names(s *Schema, b *block) {
	before := len(d.diags)
	d.allow(b, s.attributeNames(), s.blockNames())
	if !slices.ContainsFunc(s.Attributes, func(a Attribute) bool { return a.Sensitive }) {
		return
	}
	for _, diag := range d.diags[before:] {
		diag.Extra = sensitive{}
	}
}

func (s *Schema) attributeNames() []string {
	names := make([]string, len(s.Attributes))
	for i := range s.Attributes {
		names[i] = s.Attributes[i].Name
	}
	return names
}

func (s *Schema) blockNames() []string {
	names := make([]string, len(s.Blocks))
	for i := range s.Blocks {
		names[i] = s.Blocks[i].Name
	}
	return names
}

// attribute decodes one attribute and answers false when it has no value.
func (d *decoder) attribute(a *Attribute, b *block) (cty.Value, bool) {
	ty, err := parseType(a.Type)
	if err != nil {
		d.errorf(b.header, "Invalid plugin schema", "%s", capital(err.Error()))
		return cty.NilVal, false
	}
	set, exists := b.body.attributes[a.Name]
	if exists {
		value, diags := set.convert(ty)
		for _, diag := range diags {
			d.report(a.describe(diag))
		}
		if diags.HasErrors() {
			return cty.NilVal, false
		}
		if value.IsKnown() && !value.IsNull() {
			return value, true
		}
	}
	switch {
	case a.Required && exists:
		d.report(a.describe(problem(set.expr.Range(), "Missing value", "%q must not be null.", a.Name)))
	case a.Required:
		d.report(a.describe(problem(b.header, "Missing attribute", "%s needs the attribute %q.", d.subject(b), a.Name)))
	case len(a.Default) > 0:
		value, err := a.defaultValue(ty)
		return value, err == nil && !value.IsNull()
	}
	return cty.NilVal, false
}

// subject names the block that lacks something.
func (d *decoder) subject(b *block) string {
	if d.implied {
		return "There is no config block, and the plugin"
	}
	return article(b.kind) + " block"
}

// describe adds what the plugin says about the attribute, and hides the source
// of a sensitive one.
func (a *Attribute) describe(problem *hcl.Diagnostic) *hcl.Diagnostic {
	if a.Description != "" {
		problem.Detail += fmt.Sprintf("\n%s: %s", a.Name, a.Description)
	}
	if a.Sensitive {
		problem.Extra = sensitive{}
	}
	return problem
}

// blocks decodes the nested blocks of one type and answers false when there
// are none.
func (d *decoder) blocks(s *Block, parent *block) (cty.Value, bool) {
	found := parent.body.ofKind(s.Name)
	d.count(s, parent, found)
	if s.Nesting == NestingMap {
		return d.labelled(s, found)
	}
	values := make([]cty.Value, len(found))
	for i, b := range found {
		d.wantLabels(b)
		values[i] = d.object(s.Schema, b)
	}
	switch {
	case len(values) == 0:
		return cty.NilVal, false
	case s.Nesting == NestingSingle:
		return values[0], true
	default:
		return cty.TupleVal(values), true
	}
}

// count reports too few or too many blocks of one type.
func (d *decoder) count(s *Block, parent *block, found []*block) {
	most := s.MaxItems
	if s.Nesting == NestingSingle {
		most = 1
	}
	if len(found) < s.MinItems {
		d.errorf(parent.header, "Missing block", "%s needs at least %s, and has %d.",
			d.subject(parent), plural(s.MinItems, s.Name+" block"), len(found))
	}
	if most > 0 && len(found) > most {
		d.errorf(found[most].header, "Too many blocks", "%s block may have at most %s; the first is at %s.",
			article(parent.kind), plural(most, s.Name+" block"), publicRange(found[0].header))
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// labelled decodes blocks that have one label each.
func (d *decoder) labelled(s *Block, found []*block) (cty.Value, bool) {
	values := make(map[string]cty.Value)
	first := make(map[string]*block)
	for _, b := range found {
		value := d.object(s.Schema, b)
		if !d.wantLabels(b, "name") {
			continue
		}
		label := b.labels[0]
		if other, taken := first[label]; taken {
			d.errorf(b.header, "Duplicate block", "There may be only one %s block %q, and one is at %s.",
				s.Name, label, publicRange(other.header))
			continue
		}
		first[label], values[label] = b, value
	}
	return cty.ObjectVal(values), len(values) > 0
}
