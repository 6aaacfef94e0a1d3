package startup

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/component"
	"github.com/sop-host/sop/host/internal/halt"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/sdk"
)

// Stopping says what is stopped, or goes on, without its host.
type Stopping struct {
	DataDir string
	// By whom, and why.
	By, Reason string
}

// EmergencyStop stops everything that the host of a data directory has recorded,
// without that host: it may hang, or be dead. The mark that it leaves is what the
// host goes by when it wakes up, or is started. It returns how many processes were
// found.
func EmergencyStop(ctx context.Context, s Stopping) (killed int, err error) {
	dir := dataDir(s.DataDir)
	err = halt.Mark{Dir: dir.emergency()}.Set(halt.State{At: time.Now().UTC(), By: s.By, Reason: s.Reason})
	ctx, cancel := context.WithTimeout(ctx, deadWithin)
	defer cancel()
	killed, endErr := component.End(ctx, dir.components())
	failed := []error{err, endErr}
	for _, pattern := range []string{dir.join("*.cgroups"), dir.join("state", "*.cgroups")} {
		records, err := filepath.Glob(pattern)
		failed = append(failed, err)
		for _, record := range records {
			n, err := cgroup.EndRecorded(ctx, record)
			killed += n
			failed = append(failed, err)
		}
	}
	return killed, errors.Join(failed...)
}

// Resume lifts an emergency stop where no host runs.
func Resume(s Stopping) error {
	dir := dataDir(s.DataDir)
	mark := halt.Mark{Dir: dir.emergency()}
	if mark.Check() == nil {
		return sdk.Errorf(codes.FailedPrecondition, "NOT_STOPPED", "there is no emergency stop in force").WithRemedy("`sop status` says how the host stands")
	}
	return mark.Lift(halt.Lift{At: time.Now().UTC(), By: s.By, Reason: s.Reason})
}
