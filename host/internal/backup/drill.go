package backup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Drill restores the latest whole snapshot of a schedule to a scratch directory,
// compares all of it, and removes it. It returns the snapshot.
func (s *Service) Drill(ctx context.Context, schedule, by string) (snap *Snapshot, err error) {
	if snap, err = s.latestWhole(ctx, schedule); err != nil {
		return nil, err
	}
	o, err := s.unpack(ctx, snap, "drill", by)
	if err != nil {
		return snap, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return snap, s.compareDrill(ctx, snap, o.Path)
}

// compareDrill compares what was restored with what the snapshot says.
func (s *Service) compareDrill(ctx context.Context, snap *Snapshot, dir string) error {
	before, err := s.contents(ctx, snap, CompareRequest{Snapshot: snap.ID, Thorough: true})
	if sdk.FromError(err) != nil && sdk.FromError(err).Code == codes.Unimplemented {
		return nil // the plugin cannot say more than that it restored everything
	}
	if err != nil {
		return err
	}
	c := &Comparison{Snapshot: snap, Target: dir}
	if err := c.withTree(ctx, before, CompareRequest{}, nil); err != nil {
		return err
	}
	for _, d := range c.Differences {
		if before[d.Path].kind == "socket" && d.Kind == Missing {
			continue // made by whoever listens on it
		}
		return sdk.Errorf(codes.DataLoss, "BACKUP_DRILL", "%q came back from snapshot %s in another form: %s %s", clip(d.Path), snap.ID, d.Kind, d.Detail).
			WithRemedy("run `sop backup verify --data --plugin %s`", snap.Plugin)
	}
	return nil
}

// latestWhole is the latest snapshot of a schedule that holds everything.
func (s *Service) latestWhole(ctx context.Context, schedule string) (*Snapshot, error) {
	page, err := s.Store.List(ctx, Filter{Schedule: schedule, States: []State{Kept}})
	if err != nil {
		return nil, err
	}
	for _, snap := range page.Snapshots {
		if snap.Whole() {
			return snap, nil
		}
	}
	return nil, sdk.Errorf(codes.FailedPrecondition, "BACKUP_NONE", "schedule %s has no whole snapshot yet", schedule).
		WithRemedy("see why with: sop backup list --schedule %s", schedule)
}

// removeTree removes a directory with what was restored into it: directories in
// it need not be writable.
func removeTree(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(path, 0o700) //nolint:gosec // a directory that is about to be removed
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}
