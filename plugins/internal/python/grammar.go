package python

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	sitter "github.com/odvcencio/gotreesitter"
	"github.com/odvcencio/gotreesitter/grammars"
)

// What one tree may cost.
const (
	maxTree = 1 << 20 // bytes of source
	// treeBudget is what the grammar may take for a small file, treeRate how
	// many bytes it must do in a second beyond that: a tenth of what it does on
	// a plain one, for the machine may be busy.
	treeBudget = 2 * time.Second
	treeRate   = 150 << 10
)

// ErrBudget says that a file takes more to parse than is spent on one file.
var ErrBudget = errors.New("too large or too ambiguous to parse")

// Outline reads src by its tokens, and with the grammar where they leave a
// doubt. It returns a [SyntaxError] where src is no Python, [ErrBudget] where
// that cannot be found out at a reasonable cost, and ctx.Err() soon after ctx is
// done.
func Outline(ctx context.Context, src []byte) (*File, error) {
	f, err := outline(src)
	if !errors.Is(err, errDoubt) {
		return f, err
	}
	return Parse(ctx, src)
}

// Parse reads src with the grammar. Its errors are those of [Outline], but it
// does not find every error: the grammar mends much without a word.
func Parse(ctx context.Context, src []byte) (*File, error) {
	if len(src) > maxTree {
		return nil, ErrBudget
	}
	return parse(ctx, src)
}

// grammar is what is made of the language once.
type grammar struct {
	language *sitter.Language
	parsers  sync.Pool // of *sitter.Parser
	symbols  []symbol  // by sitter.Symbol
}

var python = sync.OnceValue(func() *grammar {
	g := &grammar{language: grammars.PythonLanguage()}
	g.parsers.New = func() any { return sitter.NewParser(g.language) }
	g.symbols = symbolsOf(g.language)
	return g
})

// parse builds the tree and reads it.
func parse(ctx context.Context, src []byte) (*File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g := python()
	parser, ok := g.parsers.Get().(*sitter.Parser)
	if !ok {
		return nil, errors.New("no parser")
	}
	defer g.parsers.Put(parser)
	var cancelled uint32
	stop := context.AfterFunc(ctx, func() { atomic.StoreUint32(&cancelled, 1) })
	defer stop()
	parser.SetCancellationFlag(&cancelled)
	defer parser.SetCancellationFlag(nil)
	budget := treeBudget + time.Duration(len(src))*time.Second/treeRate
	parser.SetTimeoutMicros(uint64(budget.Microseconds()))

	tree, err := parser.Parse(src)
	if tree != nil {
		defer tree.Release()
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil || tree == nil || tree.ParseStoppedEarly():
		return nil, ErrBudget
	}
	root := tree.RootNode()
	if root.HasError() {
		return nil, g.syntaxError(root)
	}
	w := walker{grammar: g, src: src, tree: tree, file: &File{}}
	w.walk(root)
	return w.file, nil
}

// syntaxError describes the first error beneath n, which has one.
func (g *grammar) syntaxError(n *sitter.Node) *SyntaxError {
	for {
		var next *sitter.Node
		for i := range n.ChildCount() {
			if c := n.Child(i); c.IsError() || c.IsMissing() || c.HasError() {
				next = c
				break
			}
		}
		switch {
		case next == nil, next.IsError():
			if next != nil {
				n = next
			}
			return &SyntaxError{Line: int(n.StartPoint().Row) + 1, Message: "not valid Python from here"}
		case next.IsMissing():
			return &SyntaxError{Line: int(next.StartPoint().Row) + 1, Message: "expected " + next.Type(g.language)}
		}
		n = next
	}
}
