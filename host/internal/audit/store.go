package audit

import (
	"context"
	"iter"
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
	// Changed returns a channel that is closed when the log has grown.
	Changed() <-chan struct{}
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
	Limit    int          // of a page; 0 or too many: [MaxPage]
	Token    string       // Page.Next of the page before
}

// MaxPage bounds a page of List.
const MaxPage = 1000

// Page is a part of a list.
type Page struct {
	Records []*Record
	Next    string // token of the next page; empty: this is the last
}
