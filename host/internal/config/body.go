package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A body is the content of a block after evaluation. Expressions are kept only
// to find the source of a part of a value.
type body struct {
	attributes map[string]*attribute
	blocks     []*block
}

// An attribute is a name with a value. The value is cty.DynamicVal when its
// expression had errors, which have been reported.
type attribute struct {
	name      string
	expr      hclsyntax.Expression
	value     cty.Value
	nameRange hcl.Range
	hint      string // said of a value that does not fit
}

// A block is a nested block. Its body is never nil.
type block struct {
	kind        string
	labels      []string
	labelRanges []hcl.Range
	typeRange   hcl.Range
	header      hcl.Range // from the type to the last label
	body        *body
}

// attributeRange returns the place of an attribute, or of the block where it is
// not set.
func (b *block) attributeRange(name string) Range {
	if attr := b.body.attributes[name]; attr != nil {
		return publicRange(attr.expr.Range())
	}
	return publicRange(b.header)
}

// evaluateBlock evaluates every expression in b and below, whether or not
// anything is known by its name, and reports what is wrong with them.
func (r *reporter) evaluateBlock(b *hclsyntax.Block, s *scope) *block {
	out := &block{
		kind: b.Type, labels: b.Labels, labelRanges: b.LabelRanges,
		typeRange: b.TypeRange, header: b.DefRange(),
	}
	out.body = &body{attributes: make(map[string]*attribute, len(b.Body.Attributes))}
	for _, name := range sortedKeys(b.Body.Attributes) {
		attr := b.Body.Attributes[name]
		value, diags := s.evaluate(attr.Expr)
		r.report(diags...)
		out.body.attributes[name] = &attribute{name: name, expr: attr.Expr, value: value, nameRange: attr.NameRange}
	}
	for _, nested := range b.Body.Blocks {
		out.body.blocks = append(out.body.blocks, r.evaluateBlock(nested, s))
	}
	return out
}

// ofKind returns the nested blocks of one kind in the order of the source.
func (b *body) ofKind(kind string) []*block {
	var out []*block
	for _, nested := range b.blocks {
		if nested.kind == kind {
			out = append(out, nested)
		}
	}
	return out
}

// partRange returns the range of the part of an expression's value that path
// leads to, or of the nearest enclosing part that has an expression of its
// own.
func partRange(expr hclsyntax.Expression, path cty.Path) hcl.Range {
	for _, step := range path {
		inner := partOf(expr, step)
		if inner == nil {
			break
		}
		expr = inner
	}
	return expr.Range()
}

// partOf returns the expression for one element of expr, or nil.
func partOf(expr hclsyntax.Expression, step cty.PathStep) hclsyntax.Expression {
	switch e := expr.(type) {
	case *hclsyntax.ParenthesesExpr:
		return partOf(e.Expression, step)
	case *hclsyntax.TupleConsExpr:
		if i, ok := stepIndex(step); ok && i < len(e.Exprs) {
			return e.Exprs[i]
		}
	case *hclsyntax.ObjectConsExpr:
		item := objectItem(e, step)
		if item != nil {
			return item.ValueExpr
		}
	}
	return nil
}

// keyRange returns the range of a key of the object that path leads to, or the
// range of the nearest enclosing expression.
func keyRange(expr hclsyntax.Expression, path cty.Path, key string) hcl.Range {
	for _, step := range path {
		inner := partOf(expr, step)
		if inner == nil {
			return expr.Range()
		}
		expr = inner
	}
	if object, ok := expr.(*hclsyntax.ObjectConsExpr); ok {
		if item := objectItem(object, cty.GetAttrStep{Name: key}); item != nil {
			return item.KeyExpr.Range()
		}
	}
	return expr.Range()
}

func objectItem(e *hclsyntax.ObjectConsExpr, step cty.PathStep) *hclsyntax.ObjectConsItem {
	name, ok := keyName(step)
	if !ok {
		return nil
	}
	for i := range e.Items {
		key, diags := e.Items[i].KeyExpr.Value(nil)
		if diags.HasErrors() || !key.IsKnown() || key.IsNull() || key.Type() != cty.String {
			continue
		}
		if key.AsString() == name {
			return &e.Items[i]
		}
	}
	return nil
}

func keyName(step cty.PathStep) (string, bool) {
	switch s := step.(type) {
	case cty.GetAttrStep:
		return s.Name, true
	case cty.IndexStep:
		if s.Key.IsKnown() && !s.Key.IsNull() && s.Key.Type() == cty.String {
			return s.Key.AsString(), true
		}
	}
	return "", false
}

func stepIndex(step cty.PathStep) (int, bool) {
	s, ok := step.(cty.IndexStep)
	if !ok || !s.Key.IsKnown() || s.Key.IsNull() || s.Key.Type() != cty.Number {
		return 0, false
	}
	i, accuracy := s.Key.AsBigFloat().Int64()
	if accuracy != 0 || i < 0 {
		return 0, false
	}
	return int(i), true
}
