package audit

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/filter"
)

// Store keeps the log. Package storetest holds what every implementation must
// do. All methods are safe for concurrent use.
type Store interface {
	// Append seals records and appends them, durably and all or none.
	Append(ctx context.Context, records ...Record) error
	// Head returns the end of the log.
	Head(ctx context.Context) (Head, error)
	// Records returns the records from a sequence number on, in order, as they
	// stand in the store: nothing is checked.
	Records(ctx context.Context, from uint64) iter.Seq2[*Record, error]
	// List returns one page.
	List(ctx context.Context, filter Filter) (Page, error)
	// PutCheckpoint keeps a checkpoint.
	PutCheckpoint(ctx context.Context, c *Checkpoint) error
	// Checkpoints returns the signed notes with the sizes they claim, smallest
	// first; nothing is checked.
	Checkpoints(ctx context.Context) ([]*Checkpoint, error)
	// LastCheckpoint returns the largest of them, or nil.
	LastCheckpoint(ctx context.Context) (*Checkpoint, error)
	// Changed returns a channel that is closed when the log has grown.
	Changed() <-chan struct{}

	// Archived returns the segments that were moved out of the store, in order;
	// nothing is checked.
	Archived(ctx context.Context) ([]Segment, error)
	// Archive remembers a segment that follows the last one that was archived,
	// and appends records: all or nothing. From then on Records and List leave
	// out what the segment holds, and Remove removes it.
	Archive(ctx context.Context, s *Segment, records ...Record) error
	// Remove removes some of the records that were archived and are still there,
	// so few that nobody who writes waits for long, and says whether any are
	// left.
	Remove(ctx context.Context) (more bool, err error)
	// Before returns the last record before the first that is not older than t.
	Before(ctx context.Context, t time.Time) (uint64, error)
	// Cursor returns what was put under a name, or 0.
	Cursor(ctx context.Context, name string) (uint64, error)
	// PutCursor remembers durably how far somebody has come.
	PutCursor(ctx context.Context, name string, seq uint64) error
}

// quick is a [Store] that can read its records for verification alone, faster
// than Records and in order, batch by batch. It need not be able to: whatever
// it answers, an error included, what it did not return is read by Records. A batch
// is valid until the next.
type quick interface {
	Digests(ctx context.Context) iter.Seq2[[]Digest, error]
}

// Filter says which records [Store.List] returns. The zero value is all.
type Filter struct {
	Actor    string
	Action   string // and what begins with it
	Resource string
	Outcome  Outcome
	Since    time.Time    // inclusive
	Until    time.Time    // exclusive
	After    uint64       // only records after this one
	Oldest   bool         // the oldest first instead of the latest
	Where    *filter.Node // of ListFields; nil: all
	Archived bool         // in archives, too; for [Log.List] and not for a store
	Limit    int          // of a page; 0 or too many: [MaxPage]
	Token    string       // Page.Next of the page before
}

// Match says whether a record passes the filter, its page aside.
func (f *Filter) Match(r *Record) bool {
	return (f.Actor == "" || f.Actor == r.Actor) && strings.HasPrefix(r.Action, f.Action) && (f.Resource == "" || f.Resource == r.Resource) &&
		(f.Outcome == "" || f.Outcome == r.Outcome) && !r.Time.Before(f.Since) && (f.Until.IsZero() || r.Time.Before(f.Until)) && r.Seq > f.After
}

// Everything says that the filter leaves no record out but those before After.
func (f *Filter) Everything() bool {
	return f.Actor == "" && f.Action == "" && f.Resource == "" && f.Outcome == "" && f.Since.IsZero() && f.Until.IsZero() && f.Where == nil
}

// MaxPage bounds a page of List.
const MaxPage = 1000

// Page is a part of a list.
type Page struct {
	Records []*Record
	Next    string // token of the next page; empty: this is the last
	// Total is how many there are on all pages, where that is known without
	// reading the log; else 0. On the first page only.
	Total int64
}
