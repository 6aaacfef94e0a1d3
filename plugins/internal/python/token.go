package python

// kind is the class of a token: as much as the outline needs to know.
type kind uint8

const (
	eof kind = iota
	newline
	// What ends an operand.
	name
	number
	str
	bytesLit
	fstring
	constant // None, True, False
	ellipsis
	closing
	// What stands between or before operands.
	opening
	comma
	colon
	semicolon
	dot
	at
	star   // * and **
	assign // =
	arrow
	walrus
	sign   // + - ~
	binary // every other operator
	soft   // match, case, type where they are keywords
	// Keywords.
	kwAnd
	kwOr
	kwNot
	kwIn
	kwIs
	kwIf
	kwElif
	kwElse
	kwFor
	kwWhile
	kwExcept
	kwTry
	kwFinally
	kwWith
	kwDef
	kwClass
	kwAsync
	kwAwait
	kwLambda
	kwPass
	kwRaise
	kwFlow // break, continue, return, yield, global, import, from, as, del, …
)

// keyword returns the kind of a word.
func keyword(text []byte) kind {
	switch string(text) {
	case "and":
		return kwAnd
	case "or":
		return kwOr
	case "not":
		return kwNot
	case "in":
		return kwIn
	case "is":
		return kwIs
	case "if":
		return kwIf
	case "elif":
		return kwElif
	case "else":
		return kwElse
	case "for":
		return kwFor
	case "while":
		return kwWhile
	case "except":
		return kwExcept
	case "try":
		return kwTry
	case "finally":
		return kwFinally
	case "with":
		return kwWith
	case "def":
		return kwDef
	case "class":
		return kwClass
	case "async":
		return kwAsync
	case "await":
		return kwAwait
	case "lambda":
		return kwLambda
	case "pass":
		return kwPass
	case "raise":
		return kwRaise
	case "break", "continue", "return", "yield", "global", "nonlocal", "import", "from", "as", "del", "assert":
		return kwFlow
	case "None", "True", "False":
		return constant
	}
	return name
}

// endsOperand says whether an operand may end with k.
func (k kind) endsOperand() bool { return k >= name && k <= closing }

// startsOperand says whether k begins an operand and cannot continue one.
func (k kind) startsOperand() bool {
	return k >= name && k <= ellipsis || k == kwLambda || k == kwAwait
}

// wantsOperand says whether an operand must follow k.
func (k kind) wantsOperand() bool {
	return k == binary || k == walrus || k == sign || k == arrow || k == dot || k >= kwAnd && k <= kwIf || k == kwElif || k == kwWhile
}

// cannotStart says whether k can stand where an operand must begin.
func (k kind) cannotStart() bool {
	return k <= newline || k == closing || k >= comma && k <= dot || k >= assign && k <= walrus || k == binary ||
		k == kwAnd || k == kwOr || k == kwIf || k == kwElse || k == kwFor
}

// startsStatement says whether k can stand nowhere but at the start of one.
func (k kind) startsStatement() bool {
	return k >= kwWhile && k <= kwClass || k == kwPass || k == kwRaise || k == kwElif
}

// token is one token; start and end are byte offsets.
type token struct {
	kind       kind
	start, end int
	line       int // of its first byte
}
