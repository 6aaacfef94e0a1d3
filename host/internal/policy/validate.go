package policy

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	internalast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// check compares one policy with the schema. Cedar's own type checker decides;
// it knows no places, so it is asked part by part until the place is known.
func (m *model) check(s *source, p *Policy) Diagnostics {
	c := &checker{model: m, source: s, policy: p}
	tree := p.ast()
	head := *tree
	head.Conditions = nil
	c.report(m.messages(&head), p.tokens[:c.conditionStart(0)])
	for i, condition := range tree.Conditions {
		start := c.conditionStart(i)
		end := len(p.tokens)
		if i+1 < len(tree.Conditions) {
			end = c.conditionStart(i + 1)
		}
		if end-start < 4 { // when { … }
			continue
		}
		c.checkCondition(head, condition, body(p.tokens[start:end]))
	}
	return c.diags
}

// checker checks one policy.
type checker struct {
	*model
	source *source
	policy *Policy
	diags  Diagnostics
	seen   map[string]bool
}

// body returns the tokens between the braces of a condition.
func body(tokens []token) []token {
	end := len(tokens)
	for end > 0 && tokens[end-1].text != "}" {
		end--
	}
	return tokens[2:max(2, end-1)]
}

// conditionStart returns the index of the keyword of the nth condition, or of
// the end.
func (c *checker) conditionStart(n int) int {
	depth := 0
	for i, t := range c.policy.tokens {
		switch t.text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		case "when", "unless":
			if depth > 0 {
				continue
			}
			if n == 0 {
				return i
			}
			n--
		}
	}
	return len(c.policy.tokens)
}

// checkCondition checks the operands of a condition's outermost && one after the
// other, each with those before it, since they may vouch for what it needs.
func (c *checker) checkCondition(head internalast.Policy, condition internalast.ConditionType, tokens []token) {
	c.closed(condition.Body, tokens)
	inherited := c.messages(&head)
	all := head
	all.Conditions = []internalast.ConditionType{condition}
	if len(without(c.messages(&all), inherited)) == 0 {
		return
	}
	parts := splitAnd(tokens)
	operands := leftSpine(condition.Body, len(parts))
	if len(operands) != len(parts) || len(parts) > mostOperands {
		parts, operands = [][]token{tokens}, []internalast.IsNode{condition.Body}
	}
	for i, node := range operands {
		policy := head
		policy.Conditions = []internalast.ConditionType{{Condition: condition.Condition, Body: node}}
		found := c.messages(&policy)
		c.report(without(found, inherited), parts[i])
		inherited = found
	}
}

// mostOperands is how many operands are told apart, since each is checked with
// those before it.
const mostOperands = 64

// splitAnd cuts an expression at its outermost &&, unless something that binds
// less is beside them.
func splitAnd(tokens []token) [][]token {
	var parts [][]token
	depth, from := 0, 0
	for i, t := range tokens {
		switch t.text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		case "||", "if":
			if depth == 0 {
				return [][]token{tokens}
			}
		case "&&":
			if depth == 0 {
				parts = append(parts, tokens[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, tokens[from:])
}

// leftSpine returns n growing expressions: the first operand of a chain of &&,
// the first two, and so on to all of it.
func leftSpine(node internalast.IsNode, n int) []internalast.IsNode {
	var spine []internalast.IsNode
	for len(spine) < n-1 {
		and, ok := node.(internalast.NodeTypeAnd)
		if !ok {
			return nil
		}
		spine = append(spine, node)
		node = and.Left
	}
	spine = append(spine, node)
	slices.Reverse(spine)
	return spine
}

// messages returns what the type checker says of a policy.
func (m *model) messages(p *internalast.Policy) []string {
	var out []string
	var add func(error)
	add = func(err error) {
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range many.Unwrap() {
				add(e)
			}
			return
		}
		if !slices.Contains(out, err.Error()) {
			out = append(out, err.Error())
		}
	}
	if err := m.validator.Policy("", p); err != nil {
		add(err)
	}
	slices.Sort(out) // the checker goes through maps
	return out
}

// without returns what is in found and not in known.
func without(found, known []string) []string {
	return slices.DeleteFunc(slices.Clone(found), func(s string) bool { return slices.Contains(known, s) })
}

// A finding says how to word one kind of message, and which token it is about.
type finding struct {
	pattern *regexp.Regexp
	summary string
	word    func(c *checker, m []string) (detail string, is func(tokens []token, i int) bool)
}

var findings = []finding{
	{
		regexp.MustCompile("^unrecognized action `(.*)`$"), "Unknown action",
		func(c *checker, m []string) (string, func([]token, int) bool) {
			name := entityID(m[1])
			return fmt.Sprintf("There is no action %q.%s", name, didYouMean(name, c.actionNames())), isText(name)
		},
	},
	{
		regexp.MustCompile("^unrecognized entity type `(.*)`$"), "Unknown entity type",
		func(c *checker, m []string) (string, func([]token, int) bool) {
			first, _, _ := strings.Cut(m[1], "::")
			return fmt.Sprintf("There is no entity type %q.%s", m[1], didYouMean(m[1], c.typeNames())), isWordToken(first)
		},
	},
	{
		regexp.MustCompile("^attribute `(.*)` (?:on entity types? (.*)|in context for (.*)) not found$"), "Unknown attribute",
		func(c *checker, m []string) (string, func([]token, int) bool) {
			name := m[1][strings.LastIndexByte(m[1], '.')+1:]
			if m[3] != "" {
				return fmt.Sprintf("There is no attribute %q in the context of %s.%s", name, entityID(m[3]), didYouMean(name, c.attributeNames(""))), isAttribute(name)
			}
			of, _, _ := strings.Cut(strings.ReplaceAll(m[2], "`", ""), ",")
			if having := c.typesWith(name); len(having) > 0 {
				return fmt.Sprintf("Not everything that this policy is about has the attribute %q: %s does, and %s does not. Say which it is about, as with `resource is %s`.",
					name, strings.Join(having, ", "), of, having[0]), isAttribute(name)
			}
			return fmt.Sprintf("There is no attribute %q of %s.%s", name, of, didYouMean(name, c.attributeNames(of))), isAttribute(name)
		},
	},
	{
		regexp.MustCompile("^unable to guarantee safety of access to optional attribute `([^`]*)`"), "Attribute may be absent",
		func(_ *checker, m []string) (string, func([]token, int) bool) {
			of, name := "context", m[1][strings.LastIndexByte(m[1], '.')+1:]
			return fmt.Sprintf("%q is not always there. Ask for it first: `%s has %s && …`.", name, of, name), isAttribute(name)
		},
	},
	{
		regexp.MustCompile("^unable to find an applicable action"), "Policy can never apply",
		func(*checker, []string) (string, func([]token, int) bool) {
			return "No action is done by such a principal on such a resource; `sop policy schema` says which are.", isWordToken("permit", "forbid")
		},
	},
	{
		regexp.MustCompile("^unexpected type: expected (.*) but saw (.*)$"), "Wrong type",
		func(_ *checker, m []string) (string, func([]token, int) bool) {
			return fmt.Sprintf("%s is needed here, and this is %s.", m[1], m[2]), nil
		},
	},
	{
		regexp.MustCompile("^the types (.*) and (.*) are not compatible$"), "Wrong type",
		func(_ *checker, m []string) (string, func([]token, int) bool) {
			return fmt.Sprintf("%s and %s can never be equal.", m[1], m[2]), nil
		},
	},
}

// report words what the type checker says about the tokens of one part. Further
// messages that mean the same, as for another action, are left out.
func (c *checker) report(messages []string, tokens []token) {
	if len(tokens) == 0 {
		tokens = c.policy.tokens
	}
	for _, message := range messages {
		if strings.HasPrefix(message, "unable to find an applicable action") && len(messages) > 1 {
			continue // follows from the others
		}
		c.reportOne(message, tokens)
	}
}

func (c *checker) reportOne(message string, tokens []token) {
	for _, f := range findings {
		m := f.pattern.FindStringSubmatch(message)
		if m == nil {
			continue
		}
		detail, is := f.word(c, m)
		first, last := tokens[0], tokens[len(tokens)-1]
		if is != nil {
			if t, ok := find(tokens, is); ok {
				first, last = t, t
			}
		}
		c.add(c.source.at(first, last, f.summary, "%s", detail))
		return
	}
	c.add(c.source.at(tokens[0], tokens[len(tokens)-1], "Invalid policy", "%s.", sentence(message)))
}

// add keeps one diagnostic of a kind for each place.
func (c *checker) add(d Diagnostic) {
	key := fmt.Sprint(d.Summary, d.Line, d.Column)
	if c.seen[key] {
		return
	}
	if c.seen == nil {
		c.seen = make(map[string]bool)
	}
	c.seen[key] = true
	c.diags = append(c.diags, d)
}

func find(tokens []token, is func([]token, int) bool) (token, bool) {
	for i := range tokens {
		if is(tokens, i) {
			return tokens[i], true
		}
	}
	return token{}, false
}

func isText(text string) func([]token, int) bool {
	return func(tokens []token, i int) bool {
		got, ok := tokens[i].quoted()
		return ok && got == text
	}
}

func isWordToken(words ...string) func([]token, int) bool {
	return func(tokens []token, i int) bool { return slices.Contains(words, tokens[i].text) }
}

// isAttribute finds .name, has name and ["name"].
func isAttribute(name string) func([]token, int) bool {
	return func(tokens []token, i int) bool {
		if i == 0 {
			return false
		}
		before := tokens[i-1].text
		if got, ok := tokens[i].quoted(); ok {
			return got == name && (before == "[" || before == "has")
		}
		return tokens[i].text == name && (before == "." || before == "has")
	}
}

// entityID returns the id in Type::"id".
func entityID(text string) string {
	_, id, found := strings.Cut(text, `::"`)
	if !found {
		return text
	}
	return strings.TrimSuffix(id, `"`)
}

// closed refuses what Cedar takes for a way of saying no: comparisons with a
// text that an attribute never has, entity types that do not exist, and
// attributes that nothing has.
func (c *checker) closed(node internalast.IsNode, tokens []token) {
	internalast.Inspect(internalast.NewNode(node), func(n internalast.IsNode) bool {
		switch n := n.(type) {
		case internalast.NodeTypeEquals:
			c.closedPair(n.Left, n.Right, tokens)
			c.closedPair(n.Right, n.Left, tokens)
		case internalast.NodeTypeNotEquals:
			c.closedPair(n.Left, n.Right, tokens)
			c.closedPair(n.Right, n.Left, tokens)
		case internalast.NodeTypeIs:
			c.knownType(n.EntityType, tokens)
		case internalast.NodeTypeIsIn:
			c.knownType(n.EntityType, tokens)
		case internalast.NodeTypeHas:
			c.knownAttribute(string(n.Value), tokens)
		}
		return true
	})
}

func (c *checker) knownType(t types.EntityType, tokens []token) {
	if !slices.Contains(c.typeNames(), string(t)) {
		c.reportOne(fmt.Sprintf("unrecognized entity type `%s`", t), tokens)
	}
}

func (c *checker) knownAttribute(name string, tokens []token) {
	if all := c.allAttributes(); !slices.Contains(all, name) {
		t, ok := find(tokens, isAttribute(name))
		if !ok {
			t = tokens[0]
		}
		c.add(c.source.at(t, t, "Unknown attribute", "Nothing has an attribute %q.%s", name, didYouMean(name, all)))
	}
}

func (c *checker) closedPair(attribute, value internalast.IsNode, tokens []token) {
	access, isAccess := attribute.(internalast.NodeTypeAccess)
	literal, isLiteral := value.(internalast.NodeValue)
	if !isAccess || !isLiteral {
		return
	}
	text, isString := literal.Value.(types.String)
	allowed := closedTexts[string(access.Value)]
	if !isString || allowed == nil || slices.Contains(allowed, string(text)) {
		return
	}
	first, last := tokens[0], tokens[len(tokens)-1]
	if t, ok := find(tokens, isText(string(text))); ok {
		first, last = t, t
	}
	c.add(c.source.at(first, last, "Unknown value", "%q is never %q.%s It is one of %s.",
		string(access.Value), string(text), didYouMean(string(text), allowed), strings.Join(allowed, ", ")))
}

// errNoPolicies is what Load says of a directory without any.
var errNoPolicies = errors.New("the directory holds no *" + Extension + " files, and without a policy nobody may do anything")
