package config

import (
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// A scope is what expressions may refer to. A value that could not be worked
// out is cty.DynamicVal: the reason has been reported, and what depends on it
// must not be blamed.
type scope struct {
	suggester
	functions     map[string]function.Function
	functionNames []string
	path          map[string]cty.Value // path.*
	locals        map[string]cty.Value // local.*; filled in by the resolver
	localNames    []string             // sorted; known before the values are
	incomplete    bool                 // part of the source could not be read: more names may exist
}

// evaluate works out an expression. The value is cty.DynamicVal when there are
// errors. Names are checked before evaluation, so that all wrong names of an
// expression are reported, each with a suggestion.
func (s *scope) evaluate(expr hclsyntax.Expression) (cty.Value, hcl.Diagnostics) {
	diags := s.checkFunctions(expr)
	used := make(map[string]cty.Value)
	for _, traversal := range expr.Variables() {
		diags = append(diags, s.checkTraversal(traversal)...)
		if name, ok := stepName(traversal, 1); ok && traversal.RootName() == "local" {
			used[name] = s.local(name)
		}
	}
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	value, diags := expr.Value(&hcl.EvalContext{
		Functions: s.functions,
		Variables: map[string]cty.Value{"path": cty.ObjectVal(s.path), "local": cty.ObjectVal(used)},
	})
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	if !smallEnough(value) {
		return cty.DynamicVal, hcl.Diagnostics{problem(expr.Range(), "Value too large",
			"The value has more than %d elements or %s of text, or a number too large to use, as after a division by zero.", maxElements, formatSize(maxText))}
	}
	return value, nil
}

func (s *scope) local(name string) cty.Value {
	if value, known := s.locals[name]; known {
		return value
	}
	return cty.DynamicVal
}

func (s *scope) checkFunctions(expr hclsyntax.Expression) hcl.Diagnostics {
	return hclsyntax.VisitAll(expr, func(node hclsyntax.Node) hcl.Diagnostics {
		call, ok := node.(*hclsyntax.FunctionCallExpr)
		if !ok {
			return nil
		}
		if _, known := s.functions[call.Name]; known {
			return nil
		}
		return hcl.Diagnostics{problem(call.NameRange, "Unknown function",
			"There is no function named %q.%s", call.Name, s.didYouMean(call.Name, s.functionNames))}
	})
}

// checkTraversal reports the first step of a reference that leads nowhere.
func (s *scope) checkTraversal(t hcl.Traversal) hcl.Diagnostics {
	root := t.RootName()
	var known map[string]cty.Value
	var names []string
	switch root {
	case "path":
		known, names = s.path, sortedKeys(s.path)
	case "local":
		known, names = s.locals, s.localNames
	default:
		return hcl.Diagnostics{problem(t.SourceRange(), "Unknown variable",
			"There is no variable named %q.%s%s", root, s.didYouMean(root, []string{"local", "path"}), quoteHint(t))}
	}
	name, ok := stepName(t, 1)
	if !ok {
		return hcl.Diagnostics{problem(t.SourceRange(), "Incomplete reference",
			"%q cannot be used as a whole. Refer to one of its values, as in %s.%s.", root, root, firstOr(names, "name"))}
	}
	value, found := known[name]
	if !found {
		if root == "local" && (s.incomplete || slices.Contains(names, name)) {
			return nil // not read, or not worked out yet
		}
		return hcl.Diagnostics{problem(t.SourceRange(), unknownSummary(root),
			"There is no %s.%s.%s", root, name, s.didYouMean(name, names))}
	}
	return s.checkSteps(value, t[2:])
}

// checkSteps follows the rest of a reference into the objects it names. It
// stops without complaint at anything else, which evaluation judges better.
func (s *scope) checkSteps(value cty.Value, steps hcl.Traversal) hcl.Diagnostics {
	for i, step := range steps {
		if !value.IsKnown() || value.IsNull() || !value.Type().IsObjectType() {
			return nil
		}
		name, ok := stepName(steps, i)
		if !ok {
			return nil
		}
		if !value.Type().HasAttribute(name) {
			names := sortedKeys(value.Type().AttributeTypes())
			return hcl.Diagnostics{problem(step.SourceRange(), "Unknown attribute",
				"The object has no attribute named %q.%s", name, s.didYouMean(name, names))}
		}
		value = value.GetAttr(name)
	}
	return nil
}

// stepName returns the name that step i of t selects.
func stepName(t hcl.Traversal, i int) (string, bool) {
	if i >= len(t) {
		return "", false
	}
	switch step := t[i].(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String && step.Key.IsKnown() && !step.Key.IsNull() {
			return step.Key.AsString(), true
		}
	}
	return "", false
}

func unknownSummary(root string) string {
	if root == "local" {
		return "Unknown local value"
	}
	return "Unknown path"
}

// quoteHint says what a bare word is most likely to be.
func quoteHint(t hcl.Traversal) string {
	if len(t) > 1 {
		return ""
	}
	return " A text value is written in quotes."
}

func firstOr(names []string, otherwise string) string {
	if len(names) == 0 {
		return otherwise
	}
	return names[0]
}

const (
	maxElements   = 200_000 // scalars and collections in one value
	maxText       = 8 << 20 // bytes of text in one value
	maxNumberBits = 5000    // size of a number, in bits before or after the point
)

// smallEnough reports whether a value stays within the limits above. Values
// share their parts, so a few short locals can describe more than fits in
// memory once written out.
func smallEnough(value cty.Value) bool {
	elements, text := 0, 0
	var walk func(v cty.Value) bool
	walk = func(v cty.Value) bool {
		if elements++; elements > maxElements || text > maxText {
			return false
		}
		if !v.IsKnown() || v.IsNull() {
			return true
		}
		switch ty := v.Type(); {
		case ty == cty.String:
			text += len(v.AsString())
		case ty == cty.Number:
			exponent := v.AsBigFloat().MantExp(nil)
			return !v.AsBigFloat().IsInf() && exponent < maxNumberBits && exponent > -maxNumberBits
		case v.CanIterateElements():
			for it := v.ElementIterator(); it.Next(); {
				key, element := it.Element()
				if key.Type() == cty.String {
					text += len(key.AsString())
				}
				if !walk(element) {
					return false
				}
			}
		}
		return text <= maxText
	}
	return walk(value)
}
