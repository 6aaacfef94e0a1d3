package config

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

var (
	labelPattern    = newPattern(`^[a-z][a-z0-9_-]{0,62}$`)
	environmentName = newPattern(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// A section reads the typed fields of one block. Every method reports what is
// wrong and answers with the default, so that reading goes on.
type section struct {
	*reporter
	*block
	dir string // where relative paths start
}

// within returns a section for a nested block; without the block, one in which
// every field has its default.
func (s section) within(b *block) section {
	if b == nil {
		b = &block{body: &body{}}
	}
	return section{s.reporter, b, s.dir}
}

// allow reports every attribute and block whose name is not among those
// given.
func (r *reporter) allow(b *block, attributes, blocks []string) {
	for _, name := range sortedKeys(b.body.attributes) {
		attr := b.body.attributes[name]
		switch {
		case slices.Contains(attributes, name):
		case slices.Contains(blocks, name):
			r.errorf(attr.nameRange, "Unexpected attribute", "%q is a block here: write %s { ... } without the equals sign.", name, name)
		default:
			r.errorf(attr.nameRange, "Unknown attribute", "%s block has no attribute named %q.%s",
				article(b.kind), name, r.didYouMean(name, append(slices.Clone(attributes), blocks...)))
		}
	}
	for _, nested := range b.body.blocks {
		switch {
		case slices.Contains(blocks, nested.kind):
		case slices.Contains(attributes, nested.kind):
			r.errorf(nested.typeRange, "Unexpected block", "%q is an attribute here: write %s = ... with an equals sign.", nested.kind, nested.kind)
		default:
			r.errorf(nested.typeRange, "Unknown block type", "%s block has no block of type %q in it.%s",
				article(b.kind), nested.kind, r.didYouMean(nested.kind, append(slices.Clone(blocks), attributes...)))
		}
	}
}

// wantLabels reports labels that are missing or too many. It returns whether
// the number is right.
func (r *reporter) wantLabels(b *block, names ...string) bool {
	switch have := len(b.labels); {
	case have > len(names) && len(names) == 0:
		r.errorf(b.labelRanges[0], "Unexpected label", "%s block has no labels.", article(b.kind))
		return false
	case have > len(names):
		r.errorf(b.labelRanges[len(names)], "Unexpected label", "%s block has no more labels than %s.", article(b.kind), strings.Join(names, " and "))
		return false
	case have < len(names):
		quoted := make([]string, len(names))
		for i, name := range names {
			quoted[i] = strconv.Quote("<" + name + ">")
		}
		r.errorf(b.header, "Missing label", "The %s label is missing: write %s %s { ... }.",
			names[have], b.kind, strings.Join(quoted, " "))
		return false
	}
	return true
}

// nameLabel reports a label that is no good as a name.
func (r *reporter) nameLabel(b *block, i int) {
	if !labelPattern.MatchString(b.labels[i]) {
		r.errorf(b.labelRanges[i], "Invalid name",
			"%q cannot be a name. A name starts with a lower-case letter and goes on with lower-case letters, digits, _ and -, 63 characters at most.", b.labels[i])
	}
}

// single returns the nested block of a kind of which there may be at most one,
// or nil. Its labels, of which it has none, are checked.
func (r *reporter) single(b *block, kind string) *block {
	found := b.body.ofKind(kind)
	if len(found) == 0 {
		return nil
	}
	for _, other := range found[1:] {
		r.errorf(other.header, "Duplicate block", "There may be only one %s block in a %s block, and one is at %s.",
			kind, b.kind, publicRange(found[0].header))
	}
	r.wantLabels(found[0])
	return found[0]
}

// require reports a missing attribute.
func (s section) require(name string) {
	if attr, exists := s.body.attributes[name]; !exists {
		s.errorf(s.header, "Missing attribute", "%s block needs the attribute %q.", article(s.kind), name)
	} else if attr.value.IsKnown() && attr.value.IsNull() {
		s.errorf(attr.expr.Range(), "Missing value", "%q must not be null.", name)
	}
}

// hint has something said of a value of an attribute that does not fit.
func (s section) hint(name, hint string) {
	if attr := s.body.attributes[name]; attr != nil {
		attr.hint = hint
	}
}

// commandHint is for a command that is given as a list, as other tools have it.
const commandHint = `its arguments go into "args"`

// get converts an attribute's value. It answers false when the attribute is
// absent or null, and when there is an error, which has then been reported.
func (s section) get(name string, want cty.Type) (*attribute, cty.Value, bool) {
	attr, exists := s.body.attributes[name]
	if !exists {
		return nil, cty.NilVal, false
	}
	value, diags := attr.convert(want)
	s.report(diags...)
	if diags.HasErrors() || !value.IsWhollyKnown() || value.IsNull() {
		return nil, cty.NilVal, false
	}
	return attr, value, true
}

func (s section) boolean(name string, otherwise bool) bool {
	if _, value, ok := s.get(name, cty.Bool); ok {
		return value.True()
	}
	return otherwise
}

// choice reads a text that must be one of the options.
func (s section) choice(name, otherwise string, options []string) string {
	attr, value, ok := s.get(name, cty.String)
	if !ok {
		return otherwise
	}
	chosen := value.AsString()
	if slices.Contains(options, chosen) {
		return chosen
	}
	s.errorf(attr.expr.Range(), "Invalid value", "%q is not a %s.%s It is one of %s.",
		chosen, strings.ReplaceAll(name, "_", " "), s.didYouMean(chosen, options), strings.Join(options, ", "))
	return otherwise
}

// path reads a path and makes it absolute. An empty one is an error.
func (s section) path(name, otherwise string) string {
	attr, value, ok := s.get(name, cty.String)
	if !ok {
		return otherwise
	}
	path := value.AsString()
	switch {
	case path == "":
		s.errorf(attr.expr.Range(), "Invalid value", "%q must not be empty.", name)
		return otherwise
	case strings.ContainsRune(path, 0):
		s.errorf(attr.expr.Range(), "Invalid value", "%q must not contain a NUL character.", name)
		return otherwise
	}
	return absolutePath(s.dir, path)
}

func absolutePath(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// integer reads a whole number between low and high.
func (s section) integer(name string, otherwise, low, high int) int {
	attr, value, ok := s.get(name, cty.Number)
	if !ok {
		return otherwise
	}
	n, accuracy := value.AsBigFloat().Int64()
	if accuracy != 0 || n < int64(low) || n > int64(high) {
		s.errorf(attr.expr.Range(), "Invalid value", "%q must be a whole number from %d to %d.", name, low, high)
		return otherwise
	}
	return int(n)
}

// number reads a number between low and high.
func (s section) number(name string, otherwise, low, high float64) float64 {
	attr, value, ok := s.get(name, cty.Number)
	if !ok {
		return otherwise
	}
	n, _ := value.AsBigFloat().Float64()
	if n < low || n > high {
		s.errorf(attr.expr.Range(), "Invalid value", "%q must be a number from %v to %v.", name, low, high)
		return otherwise
	}
	return n
}

// bounds are the least and the greatest duration a field accepts.
type bounds struct {
	low, high time.Duration
	orZero    bool // zero is accepted too
}

// duration reads a duration such as "1m30s".
func (s section) duration(name string, otherwise time.Duration, within bounds) time.Duration {
	attr, value, ok := s.get(name, cty.String)
	if !ok {
		return otherwise
	}
	d, err := time.ParseDuration(strings.TrimSpace(value.AsString()))
	if err != nil {
		s.errorf(attr.expr.Range(), "Invalid duration",
			"%q is not a duration. Write a number with a unit, such as \"250ms\", \"10s\", \"5m\" or \"1h30m\".", value.AsString())
		return otherwise
	}
	if within.orZero && d == 0 {
		return 0
	}
	if d < within.low || d > within.high {
		zero := ""
		if within.orZero {
			zero = ", or 0"
		}
		s.errorf(attr.expr.Range(), "Duration out of range", "%q must be from %s to %s%s.",
			name, shortDuration(within.low), shortDuration(within.high), zero)
		return otherwise
	}
	return d
}

// shortDuration writes a duration without its trailing zero units.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

var sizeUnits = []struct {
	name   string
	factor int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// size reads a number of bytes, plain or with a unit, from one byte to high.
func (s section) size(name string, otherwise, high int64) int64 {
	return s.sizeWithin(name, otherwise, 1, high)
}

// sizeWithin reads a number of bytes, plain or with a unit, from low to high.
func (s section) sizeWithin(name string, otherwise, low, high int64) int64 {
	attr, value, ok := s.get(name, cty.String)
	if !ok {
		return otherwise
	}
	n, err := parseSize(value.AsString())
	if err != nil {
		s.errorf(attr.expr.Range(), "Invalid size", "%s", capital(err.Error()))
		return otherwise
	}
	if n < low || n > high {
		least := "1 byte"
		if low > 1 {
			least = formatSize(low)
		}
		s.errorf(attr.expr.Range(), "Size out of range", "%q must be from %s to %s.", name, least, formatSize(high))
		return otherwise
	}
	return n
}

// parseSize reads "4MiB" or "4096".
func parseSize(text string) (int64, error) {
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	unit := text[len(digits):]
	factor := int64(1)
	if unit != "" {
		if factor = unitFactor(unit); factor == 0 {
			names := []string{"KiB", "MiB", "GiB"}
			return 0, fmt.Errorf("%q is not a unit of size.%s It is one of %s", unit, didYouMean(unit, names), strings.Join(names, ", "))
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size. Write a whole number of bytes, or one with a unit such as \"4MiB\"", text)
	}
	if n > math.MaxInt64/factor {
		return math.MaxInt64, nil
	}
	return n * factor, nil
}

func unitFactor(name string) int64 {
	for _, unit := range sizeUnits {
		if unit.name == name {
			return unit.factor
		}
	}
	return 0
}

// texts reads a list of strings; check, which may be nil, judges each.
func (s section) texts(name string, check func(string) error) []string {
	var out []string
	for at, text := range s.elements(name, cty.List(cty.String)) {
		err := checkArgument(text)
		if err == nil && check != nil {
			err = check(text)
		}
		if err != nil {
			s.errorf(partRange(s.body.attributes[name].expr, at), "Invalid value", "%s", capital(err.Error()))
			continue
		}
		out = append(out, text)
	}
	return out
}

// environment reads a map of environment variables.
func (s section) environment(name string) map[string]string {
	out := make(map[string]string)
	for at, text := range s.elements(name, cty.Map(cty.String)) {
		expr := s.body.attributes[name].expr
		key, _ := keyName(at[0])
		if err := checkEnvironmentName(key); err != nil {
			s.errorf(keyRange(expr, nil, key), "Invalid name", "%s", capital(err.Error()))
			continue
		}
		if err := checkArgument(text); err != nil {
			s.errorf(partRange(expr, at), "Invalid value", "%s", capital(err.Error()))
			continue
		}
		out[key] = text
	}
	return out
}

// elements iterates over the texts in a list or a map, with the path to each.
// It reports those that are no texts and goes on with the others.
func (s section) elements(name string, want cty.Type) iter.Seq2[cty.Path, string] {
	return func(yield func(cty.Path, string) bool) {
		attr, exists := s.body.attributes[name]
		if !exists {
			return
		}
		_, diags := attr.convert(want)
		s.report(diags...)
		value := attr.value
		if !value.IsKnown() || value.IsNull() || !value.CanIterateElements() || isMapping(value.Type()) != isMapping(want) {
			return
		}
		for key, element := range elementsOf(value) {
			at := cty.Path{cty.IndexStep{Key: key}}
			text, err := convert.Convert(element, cty.String)
			switch {
			case err != nil || !text.IsKnown():
			case text.IsNull():
				s.errorf(partRange(attr.expr, at), "Missing value", "An element of %q must not be null.", name)
			case !yield(at, text.AsString()):
				return
			}
		}
	}
}

// checkArgument refuses what cannot be handed to a process.
func checkArgument(text string) error {
	if strings.ContainsRune(text, 0) {
		return errors.New("it must not contain a NUL character")
	}
	return nil
}

func checkEnvironmentName(name string) error {
	if !environmentName.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of an environment variable: letters, digits and _ only, and no digit first", name)
	}
	return nil
}
