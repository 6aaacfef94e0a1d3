package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/kopia/kopia/repo/object"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

// reading opens the repository for reading one snapshot. When the index lacks
// some of it, the repository is pieced together from its packs.
func (r *repository) reading(ctx context.Context, id string) (v *view, m *record, failed []tree.Failure, err error) {
	if v, err = r.view(ctx); err != nil {
		return nil, nil, nil, err
	}
	m, failed, err = v.load(ctx, id)
	if v.damage == nil && ctx.Err() == nil && (isDamage(err) || err == nil && v.lacks(ctx, m)) {
		if pieced, salvageErr := r.salvage(ctx, errors.New("its index lacks what the snapshot needs")); salvageErr == nil {
			v = pieced
			m, failed, err = v.load(ctx, id)
		}
	}
	if err != nil {
		return nil, nil, nil, ioError(ctx, "read the snapshot", err)
	}
	return v, m, failed, nil
}

func isDamage(err error) bool { return err != nil && sdk.FromError(err).Reason == "SNAPSHOT_DAMAGED" }

// lacks says whether the index does not name all of a snapshot.
func (v *view) lacks(ctx context.Context, m *record) bool {
	return slices.ContainsFunc(m.entries, func(e *tree.Entry) bool {
		if e.Type != tree.TypeFile {
			return false
		}
		id, err := objectOf(e)
		if err != nil {
			return false
		}
		return v.indexed(ctx, id) != nil
	})
}

// indexed says whether the index names the contents of an object.
func (v *view) indexed(ctx context.Context, id object.ID) error {
	if content, _, direct := id.ContentID(); direct {
		_, err := v.rep.ContentInfo(ctx, content)
		return err
	}
	_, err := v.rep.VerifyObject(ctx, id)
	return err
}

// Restore implements [backup.Backup].
func (p *plugin) Restore(ctx context.Context, req *pluginv1.RestoreRequest, tell backup.ProgressFunc) (*pluginv1.RestoreResult, error) {
	r, err := p.ready()
	if err != nil {
		return nil, err
	}
	paths, err := tree.LocalPaths(req.GetPaths(), req.GetRawPaths())
	if err = errors.Join(tree.Absolute("target", req.GetTarget()), err); err != nil {
		return nil, sdk.FromError(err)
	}
	v, m, failed, err := r.reading(ctx, req.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	target, err := tree.OpenTarget(req.GetTarget())
	if err != nil {
		return nil, err
	}
	defer target.Close()
	progress := tree.Progress{Tell: tell}
	restore := &tree.Restore{Target: target, Overwrite: req.GetOverwrite(), Copy: v.copy, Count: progress.Add}
	result, err := restore.Run(ctx, m.entries, paths)
	if err != nil {
		return nil, err
	}
	for _, f := range failed {
		if wanted(paths, f.Path) {
			result.Failures = append(result.Failures, tree.PathFailures([]tree.Failure{f})...)
		}
	}
	return result, nil
}

// wanted says whether a path, or something that may be in it, is asked for.
func wanted(paths []tree.Path, p tree.Path) bool {
	return len(paths) == 0 || slices.ContainsFunc(paths, func(q tree.Path) bool { return p.Beneath(q) || q.Beneath(p) })
}

// readError is an error of the repository while a file was restored.
type readError struct{ error }

// Unwrap returns the cause.
func (e readError) Unwrap() error { return e.error }

type repositoryReader struct{ io.Reader }

// Read implements [io.Reader].
func (r repositoryReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = readError{err}
	}
	return n, err
}

// copy writes the data of a file: its extents one after the other where it has
// holes. Kopia returns what was saved or an error.
func (v *view) copy(ctx context.Context, e *tree.Entry, w io.Writer) error {
	id, err := objectOf(e)
	if err != nil {
		return err
	}
	r, err := v.rep.OpenObject(ctx, id)
	if err != nil {
		return errors.New(lost(err))
	}
	defer r.Close() //nolint:errcheck // it was read only
	if r.Length() != e.Size {
		return fmt.Errorf("its content has %d bytes where %d were saved", r.Length(), e.Size)
	}
	extents := e.Extents
	if !e.Sparse {
		extents = []tree.Extent{{0, e.Size}}
	}
	for _, x := range extents {
		if err := copyExtent(w, r, x); err != nil {
			var failed readError
			if errors.As(err, &failed) && ctx.Err() == nil {
				return errors.New(lost(err))
			}
			return err
		}
	}
	return nil
}

func copyExtent(w io.Writer, r object.Reader, x tree.Extent) error {
	if x[0] > 0 {
		if _, err := r.Seek(x[0], io.SeekStart); err != nil {
			return readError{err}
		}
	}
	_, err := io.CopyN(w, repositoryReader{r}, x[1])
	if errors.Is(err, io.EOF) {
		return readError{io.ErrUnexpectedEOF}
	}
	return err
}

// listed is how many entries are sent at a time.
const listed = 500

// Contents implements [backup.Lister].
func (p *plugin) Contents(ctx context.Context, req *pluginv1.ContentsRequest, send func([]*pluginv1.SnapshotEntry) error) error {
	r, err := p.ready()
	if err != nil {
		return err
	}
	paths, err := tree.LocalPaths(nil, req.GetPaths())
	if err != nil {
		return err
	}
	v, m, _, err := r.reading(ctx, req.GetSnapshotId())
	if err != nil {
		return err
	}
	var batch []*pluginv1.SnapshotEntry
	for _, e := range m.entries {
		if e.Ancestor || len(paths) > 0 && !slices.ContainsFunc(paths, e.Path.Beneath) {
			continue
		}
		batch = append(batch, v.entryProto(ctx, e, req.GetDigests()))
		if len(batch) < listed {
			continue
		}
		if err := errors.Join(ctx.Err(), send(batch)); err != nil {
			return err
		}
		batch = nil
	}
	return send(batch)
}

// entryProto converts an entry. The hash of a file is not kept: its content is
// read for it when digests are asked for, and there is none when that is damaged.
func (v *view) entryProto(ctx context.Context, e *tree.Entry, digests bool) *pluginv1.SnapshotEntry {
	out := &pluginv1.SnapshotEntry{
		Path: []byte(e.Path), Type: e.Type, Mode: uint32(e.Mode), Size: e.Size,
		Modified: timestamppb.New(time.Unix(e.Modified[0], e.Modified[1])), Target: []byte(e.Target),
	}
	if digests && e.Type == tree.TypeFile {
		out.Sha256 = tree.Digest(e, func(w io.Writer) error { return v.copy(ctx, e, w) })
	}
	return out
}
