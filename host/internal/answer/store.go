package answer

import (
	"context"
	"time"
)

// Store keeps reservations and answers. Package storetest holds what every
// implementation must do. All methods are safe for concurrent use, and what
// they did is durable when they return nil.
type Store interface {
	// Reserve inserts a row without an answer and returns nil, or returns the
	// row that has the ID already. It first forgets some rows from before a
	// time, one with the same ID in any case. When full it inserts nothing.
	Reserve(ctx context.Context, row Row, before time.Time, full bool) (earlier *Row, gone Usage, err error)
	// Answer adds the answer to a row that is there.
	Answer(ctx context.Context, id, sealed []byte) error
	// Release forgets a row.
	Release(ctx context.Context, id []byte) error
	// Usage says how much is kept.
	Usage(ctx context.Context) (Usage, error)
}

// Row is one reservation, with its answer once there is one.
type Row struct {
	ID      []byte // of caller and key
	Request []byte // digest
	At      time.Time
	Sealed  []byte // nil: no answer
}

// Usage is how much is kept, or was forgotten.
type Usage struct{ Rows, Bytes int64 }
