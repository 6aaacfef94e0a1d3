package process

import (
	"errors"
	"os"
	"testing"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
)

// A placement that fails is not mistaken for a refused namespace.
func TestPlacementIsNoNamespaceRefusal(t *testing.T) {
	if refused(&cgroup.PlaceError{Err: os.ErrPermission}) || refused(errors.Join(&cgroup.PlaceError{Err: os.ErrPermission})) {
		t.Error("it was")
	}
}
