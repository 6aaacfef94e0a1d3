package scaffold

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"golang.org/x/mod/semver"
)

// What one scaffold may hold.
const (
	maxSource     = 256 << 10 // bytes
	maxParameters = 32
	maxListed     = 64
)

// HeaderError says what is wrong in a scaffold and where. Lines and columns
// count from 1.
type HeaderError struct {
	File         string
	Line, Column int
	Message      string
}

// Error returns file:line:column: message.
func (e *HeaderError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

var identifier = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// scaffoldName also names a directory.
var scaffoldName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Parse reads a scaffold. file is for messages and becomes its Origin. The
// header is an HCL block `scaffold "name" { … }` that ends with the first line
// that is a closing brace alone; what follows is the template. A [HeaderError]
// says what is wrong and where.
func Parse(file string, source []byte) (*Scaffold, error) {
	if len(source) > maxSource {
		return nil, &HeaderError{file, 1, 1, fmt.Sprintf("a scaffold is at most %d bytes long", maxSource)}
	}
	end := headerEnd(source)
	if end < 0 {
		return nil, &HeaderError{file, 1, 1, "the header is missing: a block scaffold \"name\" { … } that ends with a line that is } alone"}
	}
	parsed, diags := hclsyntax.ParseConfig(source[:end], file, hcl.InitialPos)
	h := &header{file: file, out: &Scaffold{Origin: file, Source: source}, err: firstError(file, diags)}
	if h.err == nil {
		h.root(parsed.Body)
	}
	if h.err != nil {
		return nil, h.err
	}
	line := 1 + bytes.Count(source[:end], []byte{'\n'})
	var err error
	if h.out.template, err = compile(h.out.Name, string(source[end:])); err != nil {
		return nil, located(file, line, err)
	}
	return h.out, nil
}

// headerEnd returns where the line after the first line "}" begins, or -1.
func headerEnd(source []byte) int {
	at := 0
	for line := range bytes.Lines(source) {
		at += len(line)
		if string(bytes.TrimRight(line, "\r\n")) == "}" {
			return at
		}
	}
	return -1
}

func firstError(file string, diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		e := &HeaderError{file, 1, 1, strings.TrimSuffix(d.Summary, ".") + ": " + d.Detail}
		if d.Subject != nil {
			e.Line, e.Column = d.Subject.Start.Line, d.Subject.Start.Column
		}
		return e
	}
	return nil
}

// header reads one header; it keeps the first error.
type header struct {
	file string
	out  *Scaffold
	err  error
}

func (h *header) fail(at hcl.Range, format string, args ...any) {
	if h.err == nil {
		h.err = &HeaderError{h.file, at.Start.Line, at.Start.Column, fmt.Sprintf(format, args...)}
	}
}

var rootSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "scaffold", LabelNames: []string{"name"}}}}

var scaffoldSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{
		{Name: "version", Required: true},
		{Name: "summary", Required: true},
		{Name: "place", Required: true},
		{Name: "gap_types"},
		{Name: "rules"},
		{Name: "languages"},
		{Name: "paths"},
		{Name: "checks"},
		{Name: "file"},
	},
	Blocks: []hcl.BlockHeaderSchema{{Type: "parameter", LabelNames: []string{"name"}}},
}

var parameterSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{
	{Name: "type", Required: true}, {Name: "description", Required: true}, {Name: "required"}, {Name: "default"}, {Name: "choices"},
}}

func (h *header) root(body hcl.Body) {
	content, diags := body.Content(rootSchema)
	if h.err = firstError(h.file, diags); h.err != nil {
		return
	}
	if len(content.Blocks) != 1 {
		h.fail(body.MissingItemRange(), "there must be one block scaffold \"name\" { … }, not %d", len(content.Blocks))
		return
	}
	block := content.Blocks[0]
	h.out.Name = block.Labels[0]
	if !scaffoldName.MatchString(h.out.Name) {
		h.fail(block.LabelRanges[0], "the name %q is not lower-case letters, digits and hyphens", h.out.Name)
	}
	h.scaffold(block)
}

func (h *header) scaffold(block *hcl.Block) {
	content, diags := block.Body.Content(scaffoldSchema)
	if err := firstError(h.file, diags); err != nil {
		h.err = err
		return
	}
	attrs := content.Attributes
	s := h.out
	s.Version = h.text(attrs["version"])
	if h.err == nil && !semver.IsValid("v"+s.Version) {
		h.fail(attrs["version"].Expr.Range(), "the version %q is not semantic, such as 1.0.0", s.Version)
	}
	s.Summary = h.text(attrs["summary"])
	s.Place = h.text(attrs["place"])
	if h.err == nil && places[s.Place] == nil {
		h.fail(attrs["place"].Expr.Range(), "there is no place %q; there are %s", s.Place, strings.Join(PlaceNames(), ", "))
	}
	s.GapTypes = h.words(attrs["gap_types"], gapTypes)
	s.Languages = h.words(attrs["languages"], languages)
	s.Checks = h.words(attrs["checks"], checkNames)
	s.Rules = h.words(attrs["rules"], nil)
	s.Paths = h.words(attrs["paths"], nil)
	for _, p := range s.Paths {
		if fault := PatternFault(p); fault != "" {
			h.fail(attrs["paths"].Expr.Range(), "the pattern %q: %s", p, fault)
		}
	}
	h.filePath(attrs["file"], block.DefRange)
	h.parameters(content.Blocks)
}

// filePath takes the template of the path that the place "file" creates.
func (h *header) filePath(attr *hcl.Attribute, block hcl.Range) {
	switch {
	case h.err != nil:
	case attr == nil && h.out.Place == placeFile:
		h.fail(block, "the place %q wants the attribute file, the path to create", placeFile)
	case attr != nil && h.out.Place != placeFile:
		h.fail(attr.NameRange, "only the place %q takes the attribute file", placeFile)
	case attr != nil:
		text := h.text(attr)
		c, err := compile("file", text)
		if err != nil {
			h.fail(attr.Expr.Range(), "%v", err)
			return
		}
		h.out.file = c
	}
}

func (h *header) parameters(blocks hcl.Blocks) {
	if len(blocks) > maxParameters {
		h.fail(blocks[maxParameters].DefRange, "there are more than %d parameters", maxParameters)
		return
	}
	for _, b := range blocks {
		name := b.Labels[0]
		switch {
		case !identifier.MatchString(name):
			h.fail(b.LabelRanges[0], "the parameter's name %q is not lower-case letters, digits and underscores", name)
		case slices.ContainsFunc(h.out.Parameters, func(p Parameter) bool { return p.Name == name }):
			h.fail(b.LabelRanges[0], "the parameter %q is declared twice", name)
		}
		h.out.Parameters = append(h.out.Parameters, h.parameter(name, b.Body))
	}
}

func (h *header) parameter(name string, body hcl.Body) Parameter {
	p := Parameter{Name: name}
	content, diags := body.Content(parameterSchema)
	if err := firstError(h.file, diags); err != nil {
		if h.err == nil {
			h.err = err
		}
		return p
	}
	attrs := content.Attributes
	p.Type = h.text(attrs["type"])
	if h.err == nil && !slices.Contains([]string{"string", "number", "bool"}, p.Type) {
		h.fail(attrs["type"].Expr.Range(), "the type %q is none of string, number, bool", p.Type)
	}
	p.Description = h.text(attrs["description"])
	p.Choices = h.words(attrs["choices"], nil)
	if attr := attrs["required"]; attr != nil {
		if v := h.value(attr, cty.Bool); h.err == nil {
			p.Required = v.True()
		}
	}
	h.defaultOf(&p, attrs["default"])
	return p
}

func (h *header) defaultOf(p *Parameter, attr *hcl.Attribute) {
	if attr == nil || h.err != nil {
		return
	}
	if p.Required {
		h.fail(attr.NameRange, "a required parameter has no default")
		return
	}
	v := h.value(attr, map[string]cty.Type{"string": cty.String, "number": cty.Number, "bool": cty.Bool}[p.Type])
	if h.err != nil {
		return
	}
	switch p.Type {
	case "string":
		p.Default = v.AsString()
	case "number":
		p.Default, _ = v.AsBigFloat().Float64()
	case "bool":
		p.Default = v.True()
	}
	if _, err := p.accept(p.Default); err != nil {
		h.fail(attr.Expr.Range(), "the default: %v", err)
	}
}

// value evaluates an attribute, which must be of type want exactly.
func (h *header) value(attr *hcl.Attribute, want cty.Type) cty.Value {
	if h.err != nil {
		return cty.NilVal
	}
	v, diags := attr.Expr.Value(nil)
	if h.err = firstError(h.file, diags); h.err != nil {
		return cty.NilVal
	}
	if want.IsListType() {
		list, err := convert.Convert(v, want)
		if err != nil || !v.Type().IsTupleType() || !list.IsWhollyKnown() || list.IsNull() {
			h.fail(attr.Expr.Range(), "%s must be a list of strings", attr.Name)
			return cty.NilVal
		}
		return list
	}
	if !v.Type().Equals(want) || v.IsNull() || !v.IsKnown() {
		h.fail(attr.Expr.Range(), "%s must be a %s", attr.Name, want.FriendlyName())
		return cty.NilVal
	}
	return v
}

func (h *header) text(attr *hcl.Attribute) string {
	v := h.value(attr, cty.String)
	if h.err != nil {
		return ""
	}
	if v.AsString() == "" {
		h.fail(attr.Expr.Range(), "%s must not be empty", attr.Name)
	}
	return v.AsString()
}

// words reads a list of strings, each of which must be among known unless that
// is nil.
func (h *header) words(attr *hcl.Attribute, known []string) []string {
	if attr == nil {
		return nil
	}
	v := h.value(attr, cty.List(cty.String))
	if h.err != nil {
		return nil
	}
	var out []string
	for _, e := range v.AsValueSlice() {
		if e.IsNull() || e.AsString() == "" {
			h.fail(attr.Expr.Range(), "%s holds an empty string", attr.Name)
			return nil
		}
		word := e.AsString()
		switch {
		case known != nil && !slices.Contains(known, word):
			h.fail(attr.Expr.Range(), "%s: there is no %q; there are %s", attr.Name, word, strings.Join(known, ", "))
		case slices.Contains(out, word):
			h.fail(attr.Expr.Range(), "%s names %q twice", attr.Name, word)
		}
		out = append(out, word)
	}
	if len(out) > maxListed {
		h.fail(attr.Expr.Range(), "%s holds more than %d entries", attr.Name, maxListed)
	}
	return out
}
