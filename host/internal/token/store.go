package token

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/sdk"
)

// Store keeps tokens, their history, and the answers of uses with a key.
// Package storetest holds what every implementation must do. A token that a
// Store returns belongs to the caller. All methods are safe for concurrent use.
type Store interface {
	// Update runs fn in one transaction, alone among writers. What fn did is
	// durable when Update returns nil, and undone when fn returns an error or
	// panics. fn uses nothing of the Store but tx, on one goroutine.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// Find returns the token with the accessor, without its history, or nil.
	Find(ctx context.Context, accessor string) (*Token, error)
	// Get returns the token that ref names, with its history: by its accessor,
	// its id, or a beginning of the id that no other shares. Otherwise the error
	// is [ErrNotFound] or [ErrAmbiguous].
	Get(ctx context.Context, ref string) (*Token, error)
	// List returns one page, latest first.
	List(ctx context.Context, filter Filter) (Page, error)
	// Held returns the accessors of tokens, at most limit and the older first, that
	// are pending or active and of a requester, or issued from one of its tokens,
	// whatever that one's state.
	Held(ctx context.Context, requester string, limit int) ([]string, error)
	// Clock returns the highest time that was set, or the zero time.
	Clock(ctx context.Context) (time.Time, error)
}

// Tx is a write transaction of a [Store].
type Tx interface {
	// Find is as in Store.
	Find(ctx context.Context, accessor string) (*Token, error)
	// Get is as in Store, without the history.
	Get(ctx context.Context, ref string) (*Token, error)
	// Take adds to Uses and Reserved of a token, if at the time it is active,
	// lives and has as many uses left, and returns it as it is then; nil: it has
	// not, and nothing was changed. Of known only what never changes in a token is
	// believed, and it is not changed.
	Take(ctx context.Context, known *Token, uses, reserve int, at time.Time) (*Token, error)
	// Descendants returns the children of a token, theirs, and so on.
	Descendants(ctx context.Context, id string) ([]*Token, error)
	// Due returns tokens, at most limit, that are pending or active and expired
	// at the time, or pending and to be active.
	Due(ctx context.Context, at time.Time, limit int) ([]*Token, error)
	// Put inserts or replaces tokens by ID and records changes. All changes of
	// tokens pass here, in the transaction of what they describe.
	Put(ctx context.Context, tokens []*Token, changes []Change) error
	// Answer returns what was answered to a use with the key, or nil.
	Answer(ctx context.Context, id, key string) (*Answer, error)
	// PutAnswer keeps an answer, in place of an older one for the key.
	PutAnswer(ctx context.Context, id, key string, answer *Answer) error
	// ForgetAnswers removes answers, at most limit, from before a time.
	ForgetAnswers(ctx context.Context, before time.Time, limit int) error
	// SetClock raises the mark that Clock returns.
	SetClock(ctx context.Context, at time.Time) error
}

// Answer is what a use with a key was answered.
type Answer struct {
	At      time.Time
	Request []byte // [Request] digest
	Use     Use
}

// Use is the outcome of a use.
type Use struct {
	ID        string    `json:"id"`
	Accessor  string    `json:"accessor"`
	State     State     `json:"state"` // after it
	Uses      int       `json:"uses"`
	Remaining int       `json:"remaining"`
	At        time.Time `json:"at"`
	ExpiresAt time.Time `json:"expires_at"`
	// Again says that this answers a retry, which cost nothing.
	Again bool `json:"-"`
}

// Filter says which tokens [Store.List] returns. The zero value is all of them.
type Filter struct {
	Types     []Type
	States    []State
	Requester string
	IssuedBy  string
	Task      string
	At        time.Time    // states are as of then
	Where     *filter.Node // of ListFields; nil: all
	Order     []filter.Key // of ListFields; nil: the usual one
	Limit     int          // of a page; 0 or too many: [MaxPage]
	Token     string       // Page.Next of the page before
}

// MaxPage bounds a page of List.
const MaxPage = 1000

// Page is a part of a list.
type Page struct {
	Tokens []*Token
	Next   string // names the next page; empty: this is the last
	// Total is how many there are on all pages, counted to [MaxTotal]; on the
	// first page only.
	Total int64
}

// MaxTotal is how far List counts: with so many, there may be more.
const MaxTotal = 10_000

// Errors of references, for errors.Is on the cause.
var (
	ErrNotFound  = &sdk.Error{Code: codes.NotFound, Reason: "TOKEN_NOT_FOUND", Message: "no such token"}
	ErrAmbiguous = &sdk.Error{Code: codes.InvalidArgument, Reason: "TOKEN_AMBIGUOUS", Message: "more than one token"}
)

// NotFound returns the error for a reference that names no token.
func NotFound(ref string) error {
	return sdk.Errorf(codes.NotFound, ErrNotFound.Reason, "token %q: %w", clip(ref), ErrNotFound).
		WithRemedy("give its accessor or its id; list them with: sop token list")
}

// Ambiguous returns the error for a reference that names several tokens.
func Ambiguous(ref string) error {
	return sdk.Errorf(codes.InvalidArgument, ErrAmbiguous.Reason, "token %q: %w begins so", clip(ref), ErrAmbiguous).
		WithRemedy("give more of the id, or the accessor")
}
