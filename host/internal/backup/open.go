package backup

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Opened is a snapshot that was restored to be read. Close it.
type Opened struct {
	Snapshot *Snapshot
	Path     string // of the directory that it was restored to
}

// Open restores a snapshot to a directory of its own, for the caller alone. All
// that was saved is there, or the error says what is not.
func (s *Service) Open(ctx context.Context, ref, by string) (*Opened, error) {
	snap, err := s.Store.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.unpack(ctx, snap, "open", by)
}

// Clean removes what a process that was killed had opened. Call it before anything
// is opened.
func (s *Service) Clean() error { return removeTree(s.Scratch) }

// Close removes the directory.
func (o *Opened) Close() error { return removeTree(o.Path) }

// unpack restores a snapshot to a scratch directory, whose name says what for.
func (s *Service) unpack(ctx context.Context, snap *Snapshot, what, by string) (_ *Opened, err error) {
	id, err := newID()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Scratch, 0o700); err != nil {
		return nil, err
	}
	o := &Opened{Snapshot: snap, Path: filepath.Join(s.Scratch, what+"-"+id)}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	out, err := s.restore(ctx, RestoreRequest{Snapshot: snap.ID, By: by}, snap, o.Path)
	if err != nil {
		return nil, err
	}
	if out.Failed > 0 {
		f := out.Failures[0]
		return nil, sdk.Errorf(codes.DataLoss, "BACKUP_DRILL", "%d paths of snapshot %s could not be restored, among them %q: %s", out.Failed, snap.ID, clip(f.Path), f.Message).
			WithRemedy("run `sop backup verify --data --plugin %s`", snap.Plugin)
	}
	return o, nil
}
