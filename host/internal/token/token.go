package token

import (
	"slices"
	"time"
)

// Token is a capability. A token that a Service returns is shared and not to be
// changed. Only who issues it sees its secret.
type Token struct {
	ID       string // UUIDv7
	Accessor string // public handle, a part of the secret
	Hash     []byte // of the secret; see [Key]
	Type     Type
	State    State
	Reason   string // why it is in that state

	Protocol   string   // empty: any
	Operations []string // sorted; [Anything] permits all
	Requester  string   // the agent that may use it
	Task       string   // empty: any
	Paths      []string // sorted patterns; empty: everywhere
	Workspace  string   // empty: any

	IssuedBy string
	Parent   string // ID; empty: none
	Depth    int    // how many ancestors it has

	CreatedAt time.Time
	NotBefore time.Time
	ExpiresAt time.Time // the first moment at which it is expired
	MaxLife   time.Duration
	ChangedAt time.Time
	LastUse   time.Time // zero: never

	MaxUses  int
	Uses     int
	Reserved int // uses that were given to children

	// Version counts changes, so that the later of two copies is known.
	Version int64

	// History holds what became of it, oldest first; single uses are in the
	// audit trail only. Only [Store.Get] fills it.
	History []Change
}

// Anything is the operation that stands for all.
const Anything = "*"

// Remaining is how often the token can still be used.
func (t *Token) Remaining() int { return max(0, t.MaxUses-t.Uses-t.Reserved) }

// Deadline is when the token ends however often it is renewed.
func (t *Token) Deadline() time.Time { return t.CreatedAt.Add(t.MaxLife) }

// At returns t as it stands at a time, whether or not that was recorded.
func (t *Token) At(now time.Time) *Token {
	step := (*Token).activate
	switch {
	case t.lapsed(now):
		step = (*Token).expire
	case !t.due(now):
		return t
	}
	c := *t
	if _, err := step(&c, now); err != nil {
		return t
	}
	return &c
}

// Type classifies a token.
type Type string

// The types of tokens.
const (
	Operation   Type = "operation"
	Todo        Type = "todo"
	Integration Type = "integration"
	Test        Type = "test"
)

// Types returns all types.
func Types() []Type { return []Type{Operation, Todo, Integration, Test} }

// letters mark the types in secrets.
const letters = "otix"

func (t Type) letter() byte { return letters[slices.Index(Types(), t)] }

// Limits bound the tokens of one type.
type Limits struct {
	TTL     time.Duration // unless the issuer says otherwise
	MaxUses int           // unless the issuer says otherwise
	// MostUses and MaxLife are what an issuer may ask for, and MaxLife also
	// what a token gets.
	MostUses int
	MaxLife  time.Duration
}

// DefaultLimits returns the limits that hold unless they are configured.
func DefaultLimits() map[Type]Limits {
	const day = 24 * time.Hour
	const most = 1_000_000
	return map[Type]Limits{
		Operation:   {TTL: day, MaxUses: 1, MostUses: most, MaxLife: 7 * day},
		Todo:        {TTL: 2 * day, MaxUses: 100, MostUses: most, MaxLife: 14 * day},
		Integration: {TTL: time.Hour, MaxUses: 1, MostUses: most, MaxLife: day},
		Test:        {TTL: 15 * time.Minute, MaxUses: 10, MostUses: most, MaxLife: 2 * time.Hour},
	}
}
