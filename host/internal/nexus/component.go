package nexus

import (
	"context"

	"github.com/sop-host/sop/host/internal/component"
)

// Components are the supervised commands.
type Components interface {
	Status() []component.Status
	Get(name string) (component.Status, error)
	Logs(ctx context.Context, name string, last int, follow bool, send func([]component.Line) error) error
	// StartOne and Restart return when the component is ready.
	StartOne(ctx context.Context, name string) error
	Restart(ctx context.Context, name string) error
	// Stop stops those that depend on it too, before it, where dependants says so,
	// and returns their names.
	Stop(ctx context.Context, name string, dependants bool) (first []string, err error)
	// CheckStop changes nothing.
	CheckStop(name string, dependants bool) error
}
