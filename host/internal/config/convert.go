package config

import (
	"fmt"
	"iter"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// convert returns the attribute's value as the given type, or diagnostics that
// point at every part that does not fit. The value may be null, or unknown in
// part when there were errors before.
func (a *attribute) convert(want cty.Type) (cty.Value, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	for _, m := range misfits(a.value, want, nil) {
		rng := partRange(a.expr, m.path)
		if m.key != "" {
			rng = keyRange(a.expr, m.path, m.key)
		}
		if a.hint != "" {
			m.reason += "; " + a.hint
		}
		diags = append(diags, problem(rng, m.summary, "The value of %q does not fit: %s.", a.name, m.reason))
	}
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	value, err := convert.Convert(a.value, want)
	switch {
	case err == nil:
		return value, nil
	case !a.value.IsWhollyKnown():
		return cty.DynamicVal, nil // the part that is missing has been reported
	default:
		return cty.NilVal, hcl.Diagnostics{problem(a.expr.Range(), "Wrong type", "The value of %q does not fit: %s.", a.name, err.Error())}
	}
}

// A misfit is a part of a value that does not fit a type.
type misfit struct {
	path    cty.Path
	key     string // the name that is wrong rather than its value
	summary string
	reason  string
}

// misfits finds the innermost parts of a value that do not fit. What is
// unknown or null fits everything.
func misfits(value cty.Value, want cty.Type, path cty.Path) []misfit {
	if !value.IsKnown() || value.IsNull() {
		return nil
	}
	have := value.Type()
	switch {
	case want.IsObjectType() && (have.IsObjectType() || have.IsMapType()):
		return objectMisfits(value, want, path)
	case want.IsCollectionType() && value.CanIterateElements() && isMapping(want) == isMapping(have):
		var out []misfit
		for key, element := range elementsOf(value) {
			out = append(out, misfits(element, want.ElementType(), path.Index(key))...)
		}
		return out
	}
	if _, err := convert.Convert(value, want); err != nil {
		return []misfit{{path: path.Copy(), summary: "Wrong type", reason: err.Error()}}
	}
	return nil
}

// objectMisfits also finds attributes that are missing, and those the type
// does not know, which a mere conversion would drop in silence.
func objectMisfits(value cty.Value, want cty.Type, path cty.Path) []misfit {
	var out []misfit
	types := want.AttributeTypes()
	seen := make(map[string]bool)
	for key, element := range elementsOf(value) {
		name := key.AsString()
		seen[name] = true
		if ty, known := types[name]; known {
			out = append(out, misfits(element, ty, path.GetAttr(name))...)
			continue
		}
		out = append(out, misfit{
			path: path.Copy(), key: name, summary: "Unknown attribute",
			reason: fmt.Sprintf("there is no attribute %q here", name) + didYouMeanLast(name, sortedKeys(types)),
		})
	}
	for _, name := range sortedKeys(types) {
		if !seen[name] && !want.AttributeOptional(name) {
			out = append(out, misfit{path: path.Copy(), summary: "Missing attribute", reason: fmt.Sprintf("the attribute %q is missing", name)})
		}
	}
	return out
}

// didYouMeanLast is didYouMean for the end of a sentence.
func didYouMeanLast(given string, candidates []string) string {
	if name := closest(given, candidates); name != "" {
		return fmt.Sprintf("; did you mean %q", name)
	}
	return ""
}

func isMapping(ty cty.Type) bool { return ty.IsMapType() || ty.IsObjectType() }

// elementsOf iterates over keys and elements.
func elementsOf(value cty.Value) iter.Seq2[cty.Value, cty.Value] {
	return func(yield func(cty.Value, cty.Value) bool) {
		for it := value.ElementIterator(); it.Next(); {
			if !yield(it.Element()) {
				return
			}
		}
	}
}
