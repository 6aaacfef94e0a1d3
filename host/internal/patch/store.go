package patch

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/sdk"
)

// Store keeps patches, their approvals and their history. Package storetest holds
// what every implementation must do. A patch that a Store returns belongs to the
// caller. All methods are safe for concurrent use.
type Store interface {
	// Update runs fn in one transaction, alone among writers. What fn did is
	// durable when Update returns nil, and undone when fn returns an error or
	// panics. fn uses nothing of the Store but tx, on one goroutine.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// Get returns the patch that ref names, with its history: by its id, or a
	// beginning of the id that no other shares. Otherwise the error is
	// [ErrNotFound] or [ErrAmbiguous].
	Get(ctx context.Context, ref string) (*Patch, error)
	// List returns one page, latest first, without change sets, evidence and
	// verdicts.
	List(ctx context.Context, filter Filter) (Page, error)
	// Contents returns the hashes of all content that patches need, and how many
	// bytes each has.
	Contents(ctx context.Context) (map[string]int64, error)
	// Kept is how many bytes that are.
	Kept(ctx context.Context) (int64, error)
}

// Tx is a write transaction of a [Store].
type Tx interface {
	// Get is as in Store, without the history.
	Get(ctx context.Context, ref string) (*Patch, error)
	// ByKey returns the patch that was proposed with a key, or nil.
	ByKey(ctx context.Context, key string) (*Patch, error)
	// Create inserts a patch with the key that it was proposed with, which may be
	// empty, and the content that it needs.
	Create(ctx context.Context, p *Patch, key string, contents map[string]int64, change Change) error
	// Put replaces a patch by ID, but for what never changes in one, and records a
	// change. All changes of patches pass here and through Create, in the
	// transaction of what they describe.
	Put(ctx context.Context, p *Patch, change Change) error
	// Drop says that the content of patches is not needed any more: of those, at
	// most limit, that are in a state that is terminal, or integrated, since before
	// a time. It returns how many there were.
	Drop(ctx context.Context, before time.Time, limit int) (int, error)
}

// Filter says which patches [Store.List] returns. The zero value is all of them.
type Filter struct {
	Workspace string
	Task      string
	States    []State
	Where     *filter.Node // of ListFields; nil: all
	Order     []filter.Key // of ListFields; nil: the usual one
	Limit     int          // of a page; 0 or too many: [MaxPage]
	Token     string       // Page.Next of the page before
}

// MaxPage bounds a page of List.
const MaxPage = 1000

// Page is a part of a list.
type Page struct {
	Patches []*Patch
	Next    string // names the next page; empty: this is the last
}

// Reasons of errors.
const (
	ReasonTransition = "PATCH_TRANSITION"
	// ReasonChanged: the hash is not that of the patch; it was approved for another
	// content.
	ReasonChanged = "PATCH_CHANGED"
	// ReasonOwn: nobody approves what they have proposed.
	ReasonOwn = "PATCH_OWN"
	// ReasonUnapproved: while the patch was integrated, its approval has gone.
	ReasonUnapproved = "PATCH_UNAPPROVED"
	// ReasonDropped: the content of the patch is no longer kept.
	ReasonDropped = "PATCH_DROPPED"
	// ReasonRebase: what the patch replaces has changed in the same places.
	ReasonRebase = "PATCH_REBASE_CONFLICT"
	// ReasonFull: the content of patches takes all the room that it may.
	ReasonFull    = "PATCH_STORE_FULL"
	ReasonInvalid = "PATCH_REQUEST"
)

// Errors of references, for errors.Is on the cause.
var (
	ErrNotFound  = &sdk.Error{Code: codes.NotFound, Reason: "PATCH_NOT_FOUND", Message: "no such patch"}
	ErrAmbiguous = &sdk.Error{Code: codes.InvalidArgument, Reason: "PATCH_AMBIGUOUS", Message: "more than one patch"}
)

// NotFound returns the error for a reference that names no patch.
func NotFound(ref string) error {
	return sdk.Errorf(codes.NotFound, ErrNotFound.Reason, "patch %.80q: %w", ref, ErrNotFound).
		WithRemedy("list them with: sop patch list --state all")
}

// Ambiguous returns the error for a reference that names several patches.
func Ambiguous(ref string) error {
	return sdk.Errorf(codes.InvalidArgument, ErrAmbiguous.Reason, "patch %.80q: %w begins so", ref, ErrAmbiguous).
		WithRemedy("give more of the id")
}

func invalid(field, format string, args ...any) *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, ReasonInvalid, format, args...).WithField(field, "")
}
