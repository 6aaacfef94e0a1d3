package main

import (
	"context"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// listed is how many entries are sent at a time.
const listed = 500

// Contents implements [backup.Lister].
func (b *files) Contents(ctx context.Context, req *pluginv1.ContentsRequest, send func([]*pluginv1.SnapshotEntry) error) error {
	s, err := b.ready()
	if err != nil {
		return err
	}
	paths, err := tree.LocalPaths(nil, req.GetPaths())
	if err != nil {
		return err
	}
	usage, err := s.repo.lock(ctx, usageLock, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer usage.release()
	m, err := s.repo.find(req.GetSnapshotId())
	if err != nil {
		return err
	}
	var batch []*pluginv1.SnapshotEntry
	for i := range m.entries {
		e := m.entries[i]
		if e.Ancestor || len(paths) > 0 && !slices.ContainsFunc(paths, e.Path.Beneath) {
			continue
		}
		batch = append(batch, s.repo.entryProto(e, req.GetDigests()))
		if len(batch) < listed {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := send(batch); err != nil {
			return err
		}
		batch = nil
	}
	return send(batch)
}

// entryProto converts an entry. The hash of a file with holes is not kept: its
// object is read for it when digests are asked for, and there is none when that
// is damaged.
func (r *repository) entryProto(e *tree.Entry, digests bool) *pluginv1.SnapshotEntry {
	out := &pluginv1.SnapshotEntry{
		Path: []byte(e.Path), Type: e.Type, Mode: uint32(e.Mode), Size: e.Size,
		Modified: timestamppb.New(time.Unix(e.Modified[0], e.Modified[1])), Target: []byte(e.Target),
	}
	switch {
	case e.Type != tree.TypeFile:
	case !e.Sparse:
		out.Sha256 = digest(e.Object).bytes()
	case digests:
		out.Sha256 = tree.Digest(e, func(w io.Writer) error { return r.readObject(digest(e.Object), e.Stored(), w, true) })
	}
	return out
}
