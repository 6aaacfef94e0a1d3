package nexus

import (
	"context"

	"github.com/sop-host/sop/host/internal/event"
)

// Events are what has happened, for those who watch; *store.Events is one.
type Events interface {
	// Bounds returns the earliest and the latest revision that are kept.
	Bounds(ctx context.Context) (first, last int64, err error)
	// After returns at most limit events after a revision, in order; where the
	// first does not follow the revision, those between are gone.
	After(ctx context.Context, revision int64, limit int) ([]*event.Record, error)
	// Changed returns a channel that is closed when there are more.
	Changed() <-chan struct{}
}
