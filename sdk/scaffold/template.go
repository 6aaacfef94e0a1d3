package scaffold

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode"
	"unicode/utf8"
)

// What one execution of a template may take.
const (
	maxSteps  = 100_000
	maxOutput = 1 << 20 // bytes
)

// step is the function that counts the turns of loops. Templates cannot name
// it: names begin with a letter.
const step = "_step"

// allowed are the functions that a template may call: pure, and bounded by what
// they are given.
var allowed = template.FuncMap{
	"list": list, "join": join, "first": first, "add": func(a, b int) int { return a + b },
	"upper": strings.ToUpper, "lower": strings.ToLower, "trim": strings.TrimSpace, "quote": quote,
	"article": article, "plural": plural, "concat": concat, "contains": strings.Contains,
	"hasPrefix": strings.HasPrefix, "hasSuffix": strings.HasSuffix, "lines": lines, "underline": underline,
	"trimType": trimType, "receiverType": receiver, "exported": exported,
}

// builtin are those of text/template's own that stay: the ones that make
// strings of anything, or call methods, do not.
var builtin = []string{"and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice"}

// compiled is a template whose loops count their turns.
type compiled struct{ t *template.Template }

// compile parses a template. Its errors begin with the line in source.
func compile(name, source string) (*compiled, error) {
	t, err := template.New(name).Funcs(allowed).Funcs(template.FuncMap{step: noStep}).
		Option("missingkey=error").Parse(source)
	if err != nil {
		return nil, err
	}
	counter, err := template.New("step").Funcs(template.FuncMap{step: noStep}).Parse("{{" + step + "}}")
	if err != nil {
		return nil, err
	}
	if len(t.Templates()) > 1 {
		return nil, errors.New("define, template and block are not available")
	}
	if t.Tree == nil || t.Root == nil {
		return nil, errors.New("the template is empty")
	}
	g := &guard{tree: t.Tree, step: counter.Root.Nodes[0]}
	g.list(t.Root)
	return &compiled{t}, g.err
}

func noStep() (string, error) { return "", errors.New("not running") }

// located turns what text/template says into a [HeaderError] by the line that
// it begins with, counted from line first of file.
func located(file string, first int, err error) error {
	message := strings.TrimPrefix(err.Error(), "template: ")
	e := &HeaderError{File: file, Line: first, Column: 1, Message: message}
	if m := templatePosition.FindStringSubmatch(message); m != nil {
		line, _ := strconv.Atoi(m[1])
		e.Line, e.Message = first+line-1, m[3]
		if m[2] != "" {
			column, _ := strconv.Atoi(m[2])
			e.Column = column + 1
		}
	}
	return e
}

var templatePosition = regexp.MustCompile(`^[^:\s]+:(\d+):(?:(\d+):)? ?((?s:.*))$`)

// guard walks a template: it refuses what is not allowed, and makes every loop
// count.
type guard struct {
	tree *parse.Tree
	step parse.Node
	err  error
}

func (g *guard) fail(n parse.Node, format string, args ...any) {
	if g.err == nil {
		where, _ := g.tree.ErrorContext(n)
		g.err = fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...))
	}
}

func (g *guard) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		g.node(n)
	}
}

func (g *guard) node(n parse.Node) {
	switch n := n.(type) {
	case *parse.ActionNode:
		g.pipe(n.Pipe)
	case *parse.IfNode:
		g.branch(&n.BranchNode)
	case *parse.WithNode:
		g.branch(&n.BranchNode)
	case *parse.RangeNode:
		g.branch(&n.BranchNode)
		n.List.Nodes = slices.Insert(n.List.Nodes, 0, g.step)
	case *parse.TemplateNode:
		g.fail(n, "template is not available")
	}
}

func (g *guard) branch(b *parse.BranchNode) {
	g.pipe(b.Pipe)
	g.list(b.List)
	g.list(b.ElseList)
}

func (g *guard) pipe(p *parse.PipeNode) {
	if p == nil {
		return
	}
	for _, c := range p.Cmds {
		for _, arg := range c.Args {
			g.argument(arg)
		}
	}
}

func (g *guard) argument(n parse.Node) {
	switch n := n.(type) {
	case *parse.IdentifierNode:
		if _, ok := allowed[n.Ident]; !ok && !slices.Contains(builtin, n.Ident) {
			g.fail(n, "the function %s is not available", n.Ident)
		}
	case *parse.PipeNode:
		g.pipe(n)
	case *parse.ChainNode:
		g.argument(n.Node)
	}
}

// run executes the template on data.
func (c *compiled) run(ctx context.Context, data any) (string, error) {
	t, err := c.t.Clone()
	if err != nil {
		return "", err
	}
	steps := 0
	t.Funcs(template.FuncMap{step: func() (string, error) {
		if steps++; steps > maxSteps {
			return "", fmt.Errorf("the template takes more than %d turns", maxSteps)
		}
		return "", ctx.Err()
	}})
	out := &boundedText{}
	if err := t.Execute(out, data); err != nil {
		return "", err
	}
	return out.String(), nil
}

// boundedText is a writer that is full at maxOutput.
type boundedText struct{ strings.Builder }

// Write implements io.Writer.
func (b *boundedText) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxOutput {
		return 0, fmt.Errorf("the template makes more than %d bytes", maxOutput)
	}
	return b.Builder.Write(p)
}

// list writes "a", "a and b" or "a, b and c".
func list(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

func join(words []string, by string) (string, error) {
	if len(words)*len(by) > maxOutput {
		return "", errors.New("join: too long")
	}
	return strings.Join(words, by), nil
}

// first returns the first n words, and says how many are left out.
func first(n int, words []string) []string {
	if n < 1 || len(words) <= n+1 {
		return words
	}
	return append(slices.Clone(words[:n]), strconv.Itoa(len(words)-n)+" more")
}

// article puts "a" or "an" before a word.
func article(word string) string {
	if word != "" && strings.ContainsRune("aeiouAEIOU", rune(word[0])) {
		return "an " + word
	}
	return "a " + word
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func concat(parts ...string) (string, error) {
	total := 0
	for _, p := range parts {
		if total += len(p); total > maxOutput {
			return "", errors.New("concat: too long")
		}
	}
	return strings.Join(parts, ""), nil
}

func quote(text string) (string, error) { return concat(strconv.Quote(text)) }

func lines(text string) []string { return strings.Split(strings.TrimRight(text, "\n"), "\n") }

// underline repeats mark under a heading of text.
func underline(mark, text string) (string, error) {
	if len(mark) != 1 {
		return "", errors.New("underline: the mark must be one character")
	}
	return strings.Repeat(mark, len([]rune(text))), nil
}

// receiver is the type of a value on which a method with the receiver t can be
// called when it is addressable.
func receiver(t string) string { return strings.TrimSpace(strings.TrimPrefix(t, "*")) }

// trimType is the bare name of a receiver's type, as test names have it.
func trimType(t string) string { return exported(receiver(t)) }

// exported begins name with a capital, and puts X before what has none.
func exported(name string) string {
	r, size := utf8.DecodeRuneInString(name)
	if up := unicode.ToUpper(r); unicode.IsUpper(up) {
		return string(up) + name[size:]
	}
	return "X" + name
}
