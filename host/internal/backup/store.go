package backup

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/sdk"
)

// Store keeps what is known of snapshots, and what was done with them. Package
// storetest holds what every implementation must do. What a Store returns
// belongs to the caller. All methods are safe for concurrent use.
type Store interface {
	// Update runs fn in one transaction, alone among writers. What fn did is
	// durable when Update returns nil, and undone when fn returns an error or
	// panics. fn uses nothing of the Store but tx, on one goroutine.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// Get returns the snapshot that ref names: by its id, or a beginning of it
	// that no other shares. Otherwise the error is [ErrNotFound] or [ErrAmbiguous].
	Get(ctx context.Context, ref string) (*Snapshot, error)
	// List returns one page, latest first unless the filter says otherwise.
	List(ctx context.Context, filter Filter) (Page, error)
	// LastRuns returns the latest run that succeeded, and the latest of all where
	// that is another, of each schedule and work, in no order.
	LastRuns(ctx context.Context) ([]*Run, error)
}

// Tx is a write transaction of a [Store].
type Tx interface {
	// Get is as in Store.
	Get(ctx context.Context, ref string) (*Snapshot, error)
	// Of returns the snapshots of a plugin that are kept, in no order.
	Of(ctx context.Context, plugin string) ([]*Snapshot, error)
	// Put inserts or replaces a snapshot by ID.
	Put(ctx context.Context, s *Snapshot) error
	// Seen sets when snapshots were found intact, all of their data or only the
	// structure.
	Seen(ctx context.Context, ids []string, data bool, at time.Time) error
	// PutRun inserts or replaces a run by ID, and forgets the oldest ones.
	PutRun(ctx context.Context, r *Run) error
	// Record tells the audit log what is done in this transaction.
	Record(ctx context.Context, d Deed) error
}

// Deed is what was done, for the audit log.
type Deed struct {
	At     time.Time
	Action string // "save", "restore", "verify" …
	By     string
	// Snapshot, or else Plugin, is what it was done to.
	Snapshot, Plugin string
	Workspace        string
	Why              string
	Failed           bool
	Attributes       map[string]string
}

// Work is what a schedule does, each at its own interval.
type Work string

// The works.
const (
	Save      Work = "save"
	Structure Work = "structure" // verify that everything is there
	Data      Work = "data"      // verify every byte
	Drill     Work = "drill"     // restore to a scratch directory and compare
)

// Works returns all works.
func Works() []Work { return []Work{Save, Structure, Data, Drill} }

// Run is one time that a schedule did a work.
type Run struct {
	ID        string
	Schedule  string
	Work      Work
	Plugin    string
	Snapshot  string // that was made or restored; empty: none
	StartedAt time.Time
	EndedAt   time.Time // zero: it is under way, or the host was killed
	// Reason and Message say why it failed. Without a reason it did not; a message
	// then says what could not be done.
	Reason, Message string
}

// OK says that the run has ended well.
func (r *Run) OK() bool { return !r.EndedAt.IsZero() && r.Reason == "" }

// Filter says which snapshots [Store.List] returns. The zero value is all of
// them.
type Filter struct {
	Plugin    string
	Workspace string
	Task      string
	Patch     string
	Schedule  string
	States    []State
	Where     *filter.Node // of ListFields; nil: all
	Order     []filter.Key // of ListFields; nil: latest first
	Limit     int          // of a page; 0 or too many: [MaxPage]
	Token     string       // Page.Next of the page before
}

// MaxPage bounds a page of List.
const MaxPage = 1000

// Page is a part of a list.
type Page struct {
	Snapshots []*Snapshot
	Next      string // names the next page; empty: this is the last
}

// Errors of references, for errors.Is on the cause.
var (
	ErrNotFound  = &sdk.Error{Code: codes.NotFound, Reason: "BACKUP_NOT_FOUND", Message: "no such snapshot"}
	ErrAmbiguous = &sdk.Error{Code: codes.InvalidArgument, Reason: "BACKUP_AMBIGUOUS", Message: "more than one snapshot"}
)

// NotFound returns the error for a reference that names no snapshot.
func NotFound(ref string) error {
	return sdk.Errorf(codes.NotFound, ErrNotFound.Reason, "backup %q: %w", clip(ref), ErrNotFound).
		WithRemedy("list them with: sop backup list")
}

// Ambiguous returns the error for a reference that names several snapshots.
func Ambiguous(ref string) error {
	return sdk.Errorf(codes.InvalidArgument, ErrAmbiguous.Reason, "backup %q: %w begins so", clip(ref), ErrAmbiguous).
		WithRemedy("give more of the id")
}
