package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Drill restores the latest whole snapshot of a schedule to a scratch directory,
// compares all of it, and removes it. It returns the snapshot, and what could not
// be compared; empty: nothing.
func (s *Service) Drill(ctx context.Context, schedule, by string) (snap *Snapshot, left string, err error) {
	if snap, err = s.latestWhole(ctx, schedule); err != nil {
		return nil, "", err
	}
	o, err := s.unpack(ctx, snap, "drill", by)
	if err != nil {
		return snap, "", err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	left, err = s.compareDrill(ctx, snap, o.Path)
	return snap, left, err
}

// compareDrill compares what was restored with what the snapshot says.
func (s *Service) compareDrill(ctx context.Context, snap *Snapshot, dir string) (left string, err error) {
	before, err := s.contents(ctx, snap, CompareRequest{Snapshot: snap.ID, Thorough: true})
	if sdk.FromError(err) != nil && sdk.FromError(err).Code == codes.Unimplemented {
		return s.compareUnlisted(ctx, snap, dir)
	}
	if err != nil {
		return "", err
	}
	c := &Comparison{Snapshot: snap, Target: dir}
	if err := c.withTree(ctx, before, CompareRequest{}, nil); err != nil {
		return "", err
	}
	for _, d := range c.Differences {
		if before[d.Path].kind == "socket" && d.Kind == Missing {
			continue // made by whoever listens on it
		}
		return "", drillFailed(snap, "%q came back from snapshot %s in another form: %s %s", clip(d.Path), snap.ID, d.Kind, d.Detail)
	}
	return "", nil
}

func drillFailed(snap *Snapshot, format string, args ...any) error {
	return sdk.Errorf(codes.DataLoss, "BACKUP_DRILL", format, args...).WithRemedy("run `sop backup verify --data --plugin %s`", snap.Plugin)
}

// compareUnlisted compares what was restored by a plugin that cannot list what is
// in a snapshot: its number and size with the record, and its files with those of
// the workspace that have not changed since.
func (s *Service) compareUnlisted(ctx context.Context, snap *Snapshot, dir string) (left string, err error) {
	tree, err := s.unchanged(snap)
	if err != nil {
		return "", err
	}
	restored, err := os.OpenRoot(dir)
	if err != nil {
		return "", errors.Join(err, tree.close())
	}
	defer func() { err = errors.Join(err, tree.close(), restored.Close()) }()
	var found Progress
	compared := 0
	err = fs.WalkDir(restored.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		found.Files, found.Bytes = found.Files+1, found.Bytes+info.Size()
		want := tree.sum(p, info.Size())
		if want == nil {
			return nil
		}
		compared++
		if got, err := hashFile(restored, p); err != nil || !bytes.Equal(got, want) {
			return errors.Join(err, drillFailed(snap, "%q came back from snapshot %s with another content", clip(p), snap.ID))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if found.Files != snap.Files || found.Bytes != snap.Bytes {
		return "", drillFailed(snap, "snapshot %s has %d files of %d bytes, and %d of %d bytes came back", snap.ID, snap.Files, snap.Bytes, found.Files, found.Bytes)
	}
	return fmt.Sprintf("restored, but not compared path by path, which plugin %s cannot do: %d files have the content that they have in the workspace, of %d only the number and size are right",
		snap.Plugin, compared, found.Files-int64(compared)), nil
}

// unchangedTree is a workspace, of which is looked at what has not changed since a
// time.
type unchangedTree struct {
	root  *os.Root // nil: there is nothing to look at
	since time.Time
}

// unchanged is the workspace of a snapshot. Where it is gone, or the snapshot is of
// the host's own state, there is nothing to look at.
func (s *Service) unchanged(snap *Snapshot) (*unchangedTree, error) {
	id, err := uuid.Parse(snap.ID) // made before anything was read
	if err != nil || snap.Workspace == "" {
		return &unchangedTree{}, err
	}
	dir, err := s.Root(snap.Workspace)
	if err != nil || dir != snap.Root {
		return &unchangedTree{}, nil //nolint:nilerr // it is not configured any more, or elsewhere
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return &unchangedTree{}, nil
	}
	sec, nano := id.Time().UnixTime()
	return &unchangedTree{root, time.Unix(sec, nano).Add(-settled)}, err
}

// settled is how long before a snapshot a file must have been changed for the last
// time to be sure that it is in it as it is.
const settled = 2 * time.Second

func (t *unchangedTree) close() error {
	if t.root == nil {
		return nil
	}
	return t.root.Close()
}

// sum returns the hash of a file of that size; nil where it has changed since, or is
// not to be read.
func (t *unchangedTree) sum(p string, size int64) []byte {
	if t.root == nil {
		return nil
	}
	info, err := t.root.Lstat(p)
	if err != nil || !info.Mode().IsRegular() || info.Size() != size || !changedAt(info).Before(t.since) {
		return nil
	}
	sum, err := hashFile(t.root, p)
	if now, statErr := t.root.Lstat(p); err != nil || statErr != nil || !changedAt(now).Before(t.since) {
		return nil
	}
	return sum
}

// changedAt is when a file, or what is known of it, was changed for the last time.
func changedAt(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return time.Now()
}

// reasonNone says that there is no snapshot to be tried out.
const reasonNone = "BACKUP_NONE"

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
	return nil, sdk.Errorf(codes.FailedPrecondition, reasonNone, "schedule %s has no whole snapshot yet", schedule).
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
