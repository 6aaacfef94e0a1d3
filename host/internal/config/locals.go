package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A definition is an expression that other expressions may refer to: a local
// value, or host.data_dir, which path.data stands for.
type definition struct {
	name  string // as it is referred to: "local.limit", "path.data"
	expr  hclsyntax.Expression
	rng   hcl.Range
	state resolveState
	store func(cty.Value) // puts the value where the scope finds it
}

type resolveState int

const (
	unresolved resolveState = iota
	resolving
	resolved
)

// A resolver works definitions out in the order of their dependencies.
type resolver struct {
	reporter
	scope       *scope
	definitions map[string]*definition
	stack       []*definition
}

func newResolver(s *scope) *resolver {
	return &resolver{scope: s, definitions: make(map[string]*definition)}
}

// addLocals takes the attributes of a locals block.
func (r *resolver) addLocals(b *hclsyntax.Block) {
	for _, label := range b.LabelRanges {
		r.errorf(label, "Unexpected label", "A locals block has no labels.")
	}
	for _, nested := range b.Body.Blocks {
		r.errorf(nested.TypeRange, "Unexpected block",
			"A locals block holds only attributes. To give %q a value, write %s = { ... }.", nested.Type, nested.Type)
	}
	for _, name := range sortedKeys(b.Body.Attributes) {
		attr := b.Body.Attributes[name]
		d := &definition{
			name: "local." + name, expr: attr.Expr, rng: attr.NameRange,
			store: func(v cty.Value) { r.scope.locals[name] = v },
		}
		if first, exists := r.definitions[d.name]; exists {
			r.errorf(attr.NameRange, "Duplicate local value",
				"local.%s was already defined at %s.", name, publicRange(first.rng))
			continue
		}
		r.definitions[d.name] = d
	}
}

// resolveAll works out every definition, each cycle being reported once.
func (r *resolver) resolveAll() {
	for _, name := range sortedKeys(r.definitions) {
		if local, ok := strings.CutPrefix(name, "local."); ok {
			r.scope.localNames = append(r.scope.localNames, local)
		}
	}
	for _, name := range sortedKeys(r.definitions) {
		r.resolve(r.definitions[name])
	}
}

func (r *resolver) resolve(d *definition) {
	if d.state != unresolved {
		return
	}
	d.state = resolving
	r.stack = append(r.stack, d)
	cyclic := false
	for _, t := range d.expr.Variables() {
		name, ok := stepName(t, 1)
		if !ok {
			continue
		}
		needed, exists := r.definitions[t.RootName()+"."+name]
		if !exists {
			continue
		}
		if needed.state == resolving {
			r.reportCycle(t.SourceRange(), needed)
			cyclic = true
			continue
		}
		r.resolve(needed)
	}
	r.stack = r.stack[:len(r.stack)-1]
	value := cty.DynamicVal
	if !cyclic {
		var diags hcl.Diagnostics
		value, diags = r.scope.evaluate(d.expr)
		r.report(diags...)
	}
	d.store(value)
	d.state = resolved
}

// reportCycle shows the way from first, which is on the stack, back to itself.
func (r *resolver) reportCycle(rng hcl.Range, first *definition) {
	onStack := r.stack[slices.Index(r.stack, first):]
	way := make([]string, len(onStack), len(onStack)+1)
	for i, d := range onStack {
		way[i] = d.name
	}
	const longest = 20
	if len(way) > longest {
		way = append(append(way[:longest/2:longest/2], "..."), way[len(way)-longest/2:]...)
	}
	way = append(way, first.name)
	detail := "These values refer to each other: %s."
	if first.name == "path.data" && len(way) == 2 {
		detail = "path.data is what host.data_dir sets, so host.data_dir cannot refer to it: %s."
	}
	r.errorf(rng, "Reference cycle", detail, strings.Join(way, " -> "))
}
