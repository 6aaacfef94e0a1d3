package policy

import (
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A Case is a question to a set with the expected answer.
type Case struct {
	Name    string
	Request Request
	Allow   bool
	// Policy must be among those that decided; empty: any.
	Policy string

	File string
	Line int
}

// A Result is how one case went.
type Result struct {
	Case
	Decision Decision
	// Failure says what is not as expected; empty where all is.
	Failure string
}

// Test asks s.
func (c *Case) Test(s *Set) Result {
	r := Result{Case: *c, Decision: s.Decide(&c.Request)}
	named := func(p *Policy) bool { return p.ID == c.Policy }
	by := "since no policy matched"
	switch d := &r.Decision; {
	case len(d.Policies) > 0:
		by = "by " + d.Names()
	case len(d.Errors) > 0:
		by = "for an error: " + d.Errors[0].String()
	}
	switch {
	case len(r.Decision.Errors) > 0 && r.Decision.Errors[0].Policy == nil:
		r.Failure = "cannot be asked: " + r.Decision.Errors[0].Message
	case r.Decision.Allow != c.Allow:
		r.Failure = fmt.Sprintf("expected %s, got %s %s", verdict(c.Allow), verdict(r.Decision.Allow), by)
	case c.Policy != "" && !slices.ContainsFunc(r.Decision.Policies, named):
		r.Failure = fmt.Sprintf("expected to be decided by %s, was %s %s", c.Policy, verdict(r.Decision.Allow), by)
	}
	return r
}

func verdict(allow bool) string {
	if allow {
		return "allow"
	}
	return "deny"
}

const maxCases = 10_000

// LoadCases reads the case blocks of an HCL file.
func LoadCases(path string) ([]Case, Diagnostics) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, Diagnostics{whole(path, "Cannot read the test cases", "%s.", sentence(plain(err)))}
	case !info.Mode().IsRegular() || info.Size() > maxFileSize:
		return nil, Diagnostics{whole(path, "Cannot read the test cases", "It is not a regular file of at most 256 KiB.")}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, Diagnostics{whole(path, "Cannot read the test cases", "%s.", sentence(plain(err)))}
	}
	return ParseCases(path, text)
}

// ParseCases reads the case blocks of text.
func ParseCases(name string, text []byte) ([]Case, Diagnostics) {
	src, bad := newSource(File{Name: name, Text: text})
	if bad != nil {
		return nil, Diagnostics{*bad}
	}
	r := &caseReader{source: src}
	file, problems := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	r.hcl(problems)
	if len(r.diags) > 0 {
		return nil, r.diags.tidy()
	}
	content := file.Body.(*hclsyntax.Body) //nolint:forcetypeassert // ParseConfig returns nothing else
	for _, a := range content.Attributes {
		r.errorf(a.NameRange, "Unexpected attribute", "A file of cases holds case blocks only.")
	}
	var cases []Case
	for _, b := range content.Blocks {
		if c, ok := r.read(b); ok {
			cases = append(cases, c)
		}
	}
	switch {
	case len(cases) > maxCases:
		return nil, Diagnostics{whole(name, "Too many cases", "There may be at most %d in a file.", maxCases)}
	case len(r.diags) > 0:
		return nil, r.diags.tidy()
	case len(cases) == 0:
		return nil, Diagnostics{whole(name, "No cases", "The file tests nothing.")}
	}
	return cases, nil
}

// caseReader collects what is wrong.
type caseReader struct {
	source *source
	diags  Diagnostics
}

func (r *caseReader) errorf(at hcl.Range, summary, format string, args ...any) {
	d := whole(r.source.Name, summary, format, args...)
	if at.Start.Line > 0 {
		d.Line, d.Column, d.Snippet = at.Start.Line, at.Start.Column, r.source.snippet(at.Start.Line)
		d.EndLine, d.EndColumn = at.End.Line, at.End.Column
	}
	r.diags = append(r.diags, d)
}

func (r *caseReader) hcl(problems hcl.Diagnostics) {
	for _, p := range problems {
		var at hcl.Range
		if p.Subject != nil {
			at = *p.Subject
		}
		r.errorf(at, p.Summary, "%s", p.Detail)
	}
}

var caseAttributes = []string{"principal", "action", "resource", "context", "expect", "policy"}

func (r *caseReader) read(b *hclsyntax.Block) (Case, bool) {
	before := len(r.diags)
	if b.Type != "case" || len(b.Labels) != 1 {
		r.errorf(b.DefRange(), "Not a case", `Write case "what is tested" { … }.`)
		return Case{}, false
	}
	for name, a := range b.Body.Attributes {
		if !slices.Contains(caseAttributes, name) {
			r.errorf(a.NameRange, "Unknown attribute", "A case has no attribute %q.%s", name, didYouMean(name, caseAttributes))
		}
	}
	for _, nested := range b.Body.Blocks {
		r.errorf(nested.DefRange(), "Unexpected block", "A case has attributes only: write %s = { … }.", nested.Type)
	}
	c := Case{Name: b.Labels[0], File: r.source.Name, Line: b.DefRange().Start.Line, Policy: r.text(b, "policy", false)}
	c.Request.Action = r.text(b, "action", true)
	c.Request.Principal = r.principal(b)
	c.Request.Resource = r.resource(b)
	c.Request.Context, _ = r.value(b, "context", false).(map[string]any)
	switch expect := r.text(b, "expect", true); expect {
	case "allow":
		c.Allow = true
	case "deny", "":
	default:
		r.errorf(b.Body.Attributes["expect"].Expr.Range(), "Invalid value", "%q is neither allow nor deny.", expect)
	}
	return c, len(r.diags) == before
}

// value evaluates an attribute, which is nil where it is not there.
func (r *caseReader) value(b *hclsyntax.Block, name string, required bool) any {
	a := b.Body.Attributes[name]
	if a == nil {
		if required {
			r.errorf(b.DefRange(), "Missing attribute", "A case needs the attribute %q.", name)
		}
		return nil
	}
	v, problems := a.Expr.Value(nil)
	r.hcl(problems)
	if len(problems) > 0 {
		return nil
	}
	out, err := plainValue(v)
	if err != nil {
		r.errorf(a.Expr.Range(), "Invalid value", "%s.", sentence(err.Error()))
	}
	return out
}

func (r *caseReader) text(b *hclsyntax.Block, name string, required bool) string {
	v := r.value(b, name, required)
	text, ok := v.(string)
	if v != nil && !ok {
		r.errorf(b.Body.Attributes[name].Expr.Range(), "Invalid value", "%q is a text.", name)
	}
	return text
}

// principal reads a name, or an object with name, trust, method and groups.
// Without trust it is an exterior agent, and without method a peer.
func (r *caseReader) principal(b *hclsyntax.Block) Agent {
	agent := Agent{Trust: "exterior", Method: "peer"}
	switch v := r.value(b, "principal", true).(type) {
	case nil:
	case string:
		agent.Name = v
		if ref, err := ParseRef(v); err == nil && ref.Type == TypeAgent {
			agent.Name = ref.ID
		}
	case map[string]any:
		r.agent(b, &agent, v)
	default:
		r.errorf(b.Body.Attributes["principal"].Expr.Range(), "Invalid value", "A principal is a name, or { name, trust, method, groups }.")
	}
	return agent
}

func (r *caseReader) agent(b *hclsyntax.Block, agent *Agent, from map[string]any) {
	fields := map[string]*string{"name": &agent.Name, "trust": &agent.Trust, "method": &agent.Method}
	for name, v := range from {
		text, isText := v.(string)
		list, isList := v.([]any)
		switch {
		case fields[name] != nil && isText:
			*fields[name] = text
		case name == "groups" && isList:
			for _, g := range list {
				agent.Groups = append(agent.Groups, fmt.Sprint(g))
			}
		default:
			r.errorf(b.Body.Attributes["principal"].Expr.Range(), "Invalid value",
				"%q is nothing of a principal, or of another type.%s", name, didYouMean(name, []string{"name", "trust", "method", "groups"}))
		}
	}
	if allowed := closedTexts["trust"]; !slices.Contains(allowed, agent.Trust) {
		r.errorf(b.Body.Attributes["principal"].Expr.Range(), "Unknown value", "%q is no trust; it is one of %s.", agent.Trust, strings.Join(allowed, ", "))
	}
}

// resource reads Type::"id", or an object with type, id, in and attributes; and
// is the host where nothing is said.
func (r *caseReader) resource(b *hclsyntax.Block) Resource {
	at := b.DefRange()
	if a := b.Body.Attributes["resource"]; a != nil {
		at = a.Expr.Range()
	}
	switch v := r.value(b, "resource", false).(type) {
	case nil:
		return TheHost()
	case string:
		ref, err := ParseRef(v)
		if err != nil {
			r.errorf(at, "Invalid value", "%s.", sentence(err.Error()))
		}
		return Resource{Ref: ref}
	case map[string]any:
		resource, err := resourceOf(v)
		if err != nil {
			r.errorf(at, "Invalid value", "%s.", sentence(err.Error()))
		}
		return resource
	}
	r.errorf(at, "Invalid value", `A resource is Type::"id", or { entity = Type::"id", in = […], … }.`)
	return Resource{}
}

// resourceOf reads entity and in; all else are attributes.
func resourceOf(from map[string]any) (Resource, error) {
	out := Resource{Attributes: make(map[string]any)}
	for name, v := range from {
		switch name {
		case "entity":
			ref, err := ParseRef(fmt.Sprint(v))
			if err != nil {
				return out, err
			}
			out.Ref = ref
		case "in":
			list, _ := v.([]any)
			for _, p := range list {
				ref, err := ParseRef(fmt.Sprint(p))
				if err != nil {
					return out, err
				}
				out.In = append(out.In, ref)
			}
		default:
			out.Attributes[name] = v
		}
	}
	if out.Type == "" {
		return out, fmt.Errorf(`the resource names no entity: write entity = "Patch::p1"`)
	}
	return out, nil
}

// plainValue converts what an expression yields.
func plainValue(v cty.Value) (any, error) {
	t := v.Type()
	switch {
	case v.IsNull() || !v.IsWhollyKnown():
		return nil, fmt.Errorf("a value is missing")
	case t == cty.String:
		return v.AsString(), nil
	case t == cty.Bool:
		return v.True(), nil
	case t == cty.Number:
		n, accuracy := v.AsBigFloat().Int64()
		if accuracy != big.Exact {
			return nil, fmt.Errorf("only whole numbers are of use")
		}
		return n, nil
	case t.IsTupleType():
		list := []any{}
		for _, e := range v.AsValueSlice() {
			p, err := plainValue(e)
			if err != nil {
				return nil, err
			}
			list = append(list, p)
		}
		return list, nil
	case t.IsObjectType():
		object := make(map[string]any)
		for name, e := range v.AsValueMap() {
			p, err := plainValue(e)
			if err != nil {
				return nil, err
			}
			object[name] = p
		}
		return object, nil
	}
	return nil, fmt.Errorf("such a value is of no use here")
}
