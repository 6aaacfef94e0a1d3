package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/object"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// catalogue is which snapshots there are: those with a record, and those that
// only kopia knows, since a process was killed or the record was lost.
type catalogue struct {
	ids       []string // oldest first
	records   map[string]bool
	manifests map[string]*kopiaManifest
	// damaged are pieces that hold manifests and cannot be read.
	damaged []damagedContent
}

func (v *view) catalogue(ctx context.Context) (*catalogue, error) {
	c := &catalogue{records: make(map[string]bool)}
	ids, err := recordIDs(ctx, v.store)
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	if c.manifests, c.damaged, err = v.manifests(ctx); err != nil {
		return nil, err
	}
	all := make(map[string]bool)
	for id := range c.manifests {
		if seqOf(id) != 0 {
			all[id] = true
		}
	}
	for _, id := range ids {
		c.records[id], all[id] = true, true
	}
	c.ids = slices.Sorted(maps.Keys(all))
	return c, nil
}

// next is the number of the next snapshot.
func (c *catalogue) next() uint64 {
	if len(c.ids) == 0 {
		return 1
	}
	return seqOf(c.ids[len(c.ids)-1]) + 1
}

// known fails unless there is such a snapshot.
func (c *catalogue) known(id string) error {
	if _, found := slices.BinarySearch(c.ids, id); !found {
		return notFound(id)
	}
	return nil
}

// describe reads what a list tells of a snapshot: from its record, or from the
// directory of kopia.
func (v *view) describe(ctx context.Context, c *catalogue, id string) (*head, error) {
	var recordErr error
	if c.records[id] {
		h, err := v.readHead(ctx, id)
		if err == nil {
			return h, nil
		}
		recordErr = fmt.Errorf("its record: %w", err)
	}
	m := c.manifests[id]
	if m == nil {
		return nil, errors.Join(recordErr, errors.New("kopia does not know it"))
	}
	root, err := v.readDirectory(ctx, m.RootObjectID())
	if err != nil {
		return nil, errors.Join(recordErr, fmt.Errorf("its directory: %w", err))
	}
	if root.Snapshot == nil || root.Snapshot.ID != id {
		return nil, errors.Join(recordErr, errors.New("its directory does not describe it"))
	}
	return &head{description: *root.Snapshot, RootObject: m.RootObjectID().String()}, nil
}

// load reads a snapshot for a caller. What the failures name is lost.
func (v *view) load(ctx context.Context, id string) (*record, []tree.Failure, error) {
	c, err := v.catalogue(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := c.known(id); err != nil {
		return nil, nil, err
	}
	r, failed, err := v.content(ctx, c, id)
	if err != nil && ctx.Err() == nil {
		err = sdk.Errorf(codes.DataLoss, "SNAPSHOT_DAMAGED", "snapshot %s cannot be read: %w", id, err).
			WithRemedy("verify the repository, and restore another snapshot")
	}
	return r, failed, err
}

// content reads the entries of a snapshot: from its record, or from the
// directories of kopia.
func (v *view) content(ctx context.Context, c *catalogue, id string) (*record, []tree.Failure, error) {
	var recordErr error
	if c.records[id] {
		r, err := v.readRecord(ctx, id)
		if err == nil {
			return r, nil, nil
		}
		recordErr = fmt.Errorf("its record: %w", err)
	}
	m := c.manifests[id]
	if m == nil {
		return nil, nil, errors.Join(recordErr, errors.New("kopia does not know it"))
	}
	desc, entries, failed, err := v.readTree(ctx, m.RootObjectID())
	if err != nil || desc == nil || desc.ID != id {
		return nil, nil, errors.Join(recordErr, fmt.Errorf("its directories: %w", errors.Join(err, errUndescribed(desc, id))))
	}
	return &record{head: head{description: *desc, RootObject: m.RootObjectID().String()}, entries: entries}, failed, nil
}

func errUndescribed(desc *description, id string) error {
	if desc == nil || desc.ID != id {
		return errors.New("they do not describe it")
	}
	return nil
}

// proto converts the description of a snapshot.
func (h *head) proto(pinned bool) (*pluginv1.Snapshot, error) {
	sum, err := h.sum()
	return &pluginv1.Snapshot{
		Id: h.ID, CreatedAt: timestamppb.New(h.CreatedAt), Root: h.Root.Text(), Files: h.Files, Bytes: h.Bytes, Pinned: pinned,
		Labels: h.Labels, Failures: tree.PathFailures(h.Failures), ManifestSha256: sum, StoredBytes: h.Stored,
	}, err
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// List implements [backup.Backup].
func (p *plugin) List(ctx context.Context, req *pluginv1.ListRequest) (*pluginv1.ListResponse, error) {
	r, err := p.ready()
	if err != nil {
		return nil, err
	}
	before := req.GetPageToken()
	if before != "" && seqOf(before) == 0 {
		return nil, sdk.Errorf(codes.InvalidArgument, "BAD_PAGE_TOKEN", "%q is no page token", before).WithField("page_token", "")
	}
	v, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	c, err := v.catalogue(ctx)
	if err != nil {
		return nil, ioError(ctx, "list snapshots", err)
	}
	size := int(req.GetPageSize())
	if size <= 0 || size > maxPage {
		size = defaultPage
	}
	resp := &pluginv1.ListResponse{}
	for _, id := range slices.Backward(c.ids) {
		if before != "" && id >= before || len(req.GetSnapshotIds()) > 0 && !slices.Contains(req.GetSnapshotIds(), id) {
			continue
		}
		s, ok, err := v.listed(ctx, c, id, req.GetLabels())
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if len(resp.GetSnapshots()) == size {
			resp.NextPageToken = resp.GetSnapshots()[size-1].GetId()
			break
		}
		resp.Snapshots = append(resp.Snapshots, s)
	}
	return resp, nil
}

// listed describes a snapshot, if it has the labels. One that cannot be read has
// none, and says why among its failures.
func (v *view) listed(ctx context.Context, c *catalogue, id string, labels map[string]string) (*pluginv1.Snapshot, bool, error) {
	h, err := v.describe(ctx, c, id)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	pinned := c.manifests[id].pinned()
	if errors.Is(err, blob.ErrBlobNotFound) && c.manifests[id] == nil {
		return nil, false, nil // deleted meanwhile
	}
	if err != nil {
		message := strings.ReplaceAll(err.Error(), "\n", "; ")
		return &pluginv1.Snapshot{Id: id, Pinned: pinned, Failures: []*pluginv1.PathFailure{{Message: message}}}, len(labels) == 0, nil
	}
	for k, want := range labels {
		if got, has := h.Labels[k]; !has || got != want {
			return nil, false, nil
		}
	}
	s, err := h.proto(pinned)
	return s, true, err
}

// objectOf is the object of a file.
func objectOf(e *tree.Entry) (object.ID, error) { return object.ParseID(e.Object) }
