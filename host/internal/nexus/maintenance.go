package nexus

import (
	"context"

	"github.com/sop-host/sop/host/internal/maintenance"
)

// Maintenance is what is asked for when subsystems fail; *maintenance.Service is
// one.
type Maintenance interface {
	File(ctx context.Context, r maintenance.Request) (*maintenance.Record, error)
	// Check says whether File would take a request.
	Check(r maintenance.Request) error
	Close(ctx context.Context, ref, by, why string) (*maintenance.Record, error)
	CheckClose(ctx context.Context, ref, why string) (*maintenance.Record, error)
	Get(ctx context.Context, ref string) (*maintenance.Record, error)
	List(ctx context.Context, filter maintenance.Filter) (maintenance.Page, error)
}
