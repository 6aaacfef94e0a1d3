package gap

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/sdk"
)

// Store keeps gaps, their history and the record of scans. Package storetest
// holds what every implementation must do. A gap that a Store returns belongs
// to the caller. A reference that names no gap is [ErrNotFound], one that names
// several is [ErrAmbiguous]. All methods are safe for concurrent use.
type Store interface {
	// Update runs fn in one transaction, alone among writers. What fn did is
	// durable when Update returns nil, and undone when fn returns an error or
	// panics. fn uses nothing of the Store but tx, on one goroutine.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// Get returns the gap that ref names, with its history.
	Get(ctx context.Context, ref string) (*Gap, error)
	// List returns one page, by severity from the highest, then path and line.
	List(ctx context.Context, filter Filter) (Page, error)
	// Counts returns how many gaps there are; an empty workspace stands for all.
	Counts(ctx context.Context, workspace string) ([]Count, error)
	// Scans returns the latest scans of a workspace, latest first.
	Scans(ctx context.Context, workspace string, limit int) ([]*ScanResult, error)
}

// Tx is a write transaction of a [Store].
type Tx interface {
	// Get is as in Store, without the history.
	Get(ctx context.Context, ref string) (*Gap, error)
	// Gaps returns what is selected, in no order, without the history.
	Gaps(ctx context.Context, sel Selection) ([]*Gap, error)
	// Detectors returns the names of the detectors that have gaps in a workspace that
	// are not resolved.
	Detectors(ctx context.Context, workspace string) ([]string, error)
	// Put inserts or replaces gaps by ID and appends changes to the history.
	Put(ctx context.Context, gaps []*Gap, changes []Change) error
	// Touch sets when gaps were last seen.
	Touch(ctx context.Context, ids []string, at time.Time) error
	// RecordScan appends a scan and forgets the oldest ones of the workspace.
	RecordScan(ctx context.Context, result *ScanResult) error
	// Counts is as in Store.
	Counts(ctx context.Context, workspace string) ([]Count, error)
}

// Selection says which gaps of a workspace [Tx.Gaps] returns.
type Selection struct {
	Workspace string
	Detector  string   // empty: all
	Resolved  bool     // the resolved ones instead of the others
	Paths     []string // nil: everywhere; may be long
	// Lapsed, when set, leaves only gaps whose suppression ends by then.
	Lapsed time.Time
}

// Filter says which gaps [Store.List] returns. The zero value is all of them.
type Filter struct {
	Workspace string
	States    []State
	Severity  Severity // at least
	Rule      string
	Detector  string
	Path      string       // a file, or a directory with all beneath it
	Where     *filter.Node // of ListFields; nil: all
	Order     []filter.Key // of ListFields; nil: the usual one
	Limit     int          // of a page; 0 or too many: [MaxPage]
	Token     string       // Page.Next of the page before
}

// MaxPage bounds a page of List.
const MaxPage = 1000

// Page is a part of a list.
type Page struct {
	Gaps []*Gap
	Next string // token of the next page; empty: this is the last
	// Total is how many there are on all pages; on the first page only.
	Total int64
}

// Count is how many gaps of a workspace have a severity and a state.
type Count struct {
	Workspace string   `json:"workspace"`
	Severity  Severity `json:"severity"`
	State     State    `json:"state"`
	Gaps      int      `json:"gaps"`
}

// Errors of references, for errors.Is on the cause.
var (
	ErrNotFound  = &sdk.Error{Code: codes.NotFound, Reason: "GAP_NOT_FOUND", Message: "no such gap"}
	ErrAmbiguous = &sdk.Error{Code: codes.InvalidArgument, Reason: "GAP_AMBIGUOUS", Message: "more than one gap"}
)

// NotFound returns the error for a reference that names no gap.
func NotFound(ref string) error {
	return sdk.Errorf(codes.NotFound, ErrNotFound.Reason, "gap %q: %w", clip(ref, 100), ErrNotFound).
		WithRemedy("list them with: sop gap list")
}

// Ambiguous returns the error for a reference that names several gaps.
func Ambiguous(ref string) error {
	return sdk.Errorf(codes.InvalidArgument, ErrAmbiguous.Reason, "gap %q: %w begins so", clip(ref, 100), ErrAmbiguous).
		WithRemedy("give more of the id or of the fingerprint")
}
