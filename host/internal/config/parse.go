package config

import (
	"bytes"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// HCL's parser and evaluator are recursive, and a Go stack that overflows
// ends the process. These limits are far above what a person writes and far
// below what the stack holds.
const (
	maxNesting     = 100    // brackets, blocks and templates open at once
	maxOperators   = 20_000 // tokens in one file that can deepen an expression without a bracket
	maxNumberBytes = 400    // length of one number literal
	maxExponent    = 4      // digits in the exponent of a number literal
)

// A fragment is a stretch of a source file that parsed on its own without
// errors: the whole file or, in a file with syntax errors, some of its
// top-level blocks.
type fragment struct {
	body *hclsyntax.Body
}

// parse returns the parts of a file that can be trusted and the syntax errors
// of the rest. A file with errors is split at its top-level blocks, so that
// what is wrong with one block hides nothing about the others.
func parse(file string, src []byte) ([]fragment, hcl.Diagnostics) {
	if d := checkText(file, src); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	if d := checkDepth(file, src); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	body, whole := parseBody(file, src, hcl.InitialPos)
	if !whole.HasErrors() {
		return []fragment{{body}}, whole
	}
	var fragments []fragment
	var diags hcl.Diagnostics
	for _, piece := range splitBlocks(src) {
		body, pieceDiags := parseBody(file, piece.src, piece.start)
		diags = append(diags, withoutEchoes(pieceDiags)...)
		if !pieceDiags.HasErrors() {
			fragments = append(fragments, fragment{body})
		}
	}
	if !diags.HasErrors() {
		return nil, whole
	}
	return fragments, diags
}

func parseBody(file string, src []byte, start hcl.Pos) (*hclsyntax.Body, hcl.Diagnostics) {
	f, diags := hclsyntax.ParseConfig(src, file, start)
	if diags.HasErrors() {
		return nil, diags
	}
	return f.Body.(*hclsyntax.Body), diags //nolint:forcetypeassert // ParseConfig returns nothing else
}

// withoutEchoes drops what follows an unclosed quote, which makes nonsense of
// the text after it.
func withoutEchoes(diags hcl.Diagnostics) hcl.Diagnostics {
	for i, d := range diags {
		if d.Summary == "Invalid multi-line string" || d.Summary == "Unterminated template string" {
			return diags[:i+1]
		}
	}
	return diags
}

// checkDepth refuses a file that would need a very deep stack.
func checkDepth(file string, src []byte) *hcl.Diagnostic {
	tokens, _ := hclsyntax.LexConfig(src, file, hcl.InitialPos) // the parser reports what the lexer finds
	depth, operators := 0, 0
	for _, token := range tokens {
		switch token.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			depth++
		case hclsyntax.TokenTemplateControl:
			depth++
			operators++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen,
			hclsyntax.TokenTemplateSeqEnd, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			depth = max(0, depth-1)
		case hclsyntax.TokenNumberLit:
			if !sensibleNumber(token.Bytes) {
				return problem(token.Range, "Number too large", "A number may have at most %d digits, and %d in its exponent.", maxNumberBytes, maxExponent)
			}
		default:
			if deepens(token.Type) {
				operators++
			}
		}
		if token.Type == hclsyntax.TokenOBrack {
			operators++ // an index on an index on an index
		}
		if depth > maxNesting {
			return problem(token.Range, "Nesting too deep", "Brackets, blocks and templates may be nested at most %d deep.", maxNesting)
		}
		if operators > maxOperators {
			return problem(token.Range, "Too many operators", "One file may hold at most %d operators and indexes.", maxOperators)
		}
	}
	return nil
}

// deepens reports whether a run of tokens of this type makes an expression
// deeper.
func deepens(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar,
		hclsyntax.TokenSlash, hclsyntax.TokenPercent, hclsyntax.TokenAnd, hclsyntax.TokenOr,
		hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq,
		hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq, hclsyntax.TokenQuestion:
		return true
	default:
		return false
	}
}

func sensibleNumber(literal []byte) bool {
	if len(literal) > maxNumberBytes {
		return false
	}
	i := bytes.IndexAny(literal, "eE")
	return i < 0 || len(bytes.TrimLeft(literal[i+1:], "+-0")) <= maxExponent
}

// piece is a stretch of a source file and where it starts.
type piece struct {
	src   []byte
	start hcl.Pos
}

var (
	blockHeader   = newPattern(`^[A-Za-z_][\w-]*(\s+("[^"]*"|[A-Za-z_][\w-]*))*\s*\{`)
	heredocMarker = newPattern(`<<-?([\pL_][\pL\pN_-]*)\s*$`)
)

// splitBlocks cuts src before each line that opens a block in the first
// column, outside heredocs. It works on lines because tokens are of no use
// after an unclosed quote or brace.
func splitBlocks(src []byte) []piece {
	pieces := []piece{{start: hcl.InitialPos}}
	heredoc, offset, line := "", 0, 1
	for text := range bytes.Lines(src) {
		switch {
		case heredoc != "":
			if string(bytes.TrimSpace(text)) == heredoc {
				heredoc = ""
			}
		case blockHeader().Match(text):
			pieces = append(pieces, piece{start: hcl.Pos{Line: line, Column: 1, Byte: offset}})
			fallthrough
		default:
			if m := heredocMarker().FindSubmatch(bytes.TrimRight(text, "\r\n")); m != nil {
				heredoc = string(m[1])
			}
		}
		last := &pieces[len(pieces)-1]
		last.src = src[last.start.Byte : offset+len(text)]
		offset += len(text)
		line++
	}
	return pieces
}
