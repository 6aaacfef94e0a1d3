package main

import (
	"context"
	"encoding/hex"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// files implements [backup.Backup] and [backup.Pruner].
type files struct {
	service atomic.Pointer[service]
}

// service is what a configuration makes of the plugin.
type service struct {
	settings *settings
	repo     *repository
	// now tells the time; nothing but retention by age relies on it.
	now func() time.Time
}

func (b *files) configure(ctx context.Context, c *sdk.Config) error {
	s, err := decode(c)
	if err != nil {
		return err
	}
	repo, err := openRepository(ctx, s.directory, s.compress)
	if err != nil {
		return &sdk.ConfigError{Attribute: "directory", Summary: err.Error(), Detail: sdk.FromError(err).Remedy}
	}
	b.service.Store(&service{s, repo, time.Now})
	return nil
}

// ready returns the service; without one no call can be served.
func (b *files) ready() (*service, error) {
	s := b.service.Load()
	if s == nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, "NOT_CONFIGURED", "the plugin has not been configured")
	}
	return s, nil
}

// List implements [backup.Backup].
func (b *files) List(_ context.Context, req *pluginv1.ListRequest) (*pluginv1.ListResponse, error) {
	s, err := b.ready()
	if err != nil {
		return nil, err
	}
	l, err := s.repo.list()
	if err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	if size <= 0 || size > maxPage {
		size = defaultPage
	}
	before := req.GetPageToken()
	if before != "" && seqOf(before) == 0 {
		return nil, sdk.Errorf(codes.InvalidArgument, "BAD_PAGE_TOKEN", "%q is no page token", before).WithField("page_token", "")
	}
	resp := &pluginv1.ListResponse{}
	for _, id := range slices.Backward(l.live) {
		if before != "" && id >= before || len(req.GetSnapshotIds()) > 0 && !slices.Contains(req.GetSnapshotIds(), id) {
			continue
		}
		snapshot, ok := s.repo.describe(id, req.GetLabels())
		if !ok {
			continue
		}
		if len(resp.GetSnapshots()) == size {
			resp.NextPageToken = resp.GetSnapshots()[size-1].GetId()
			break
		}
		resp.Snapshots = append(resp.Snapshots, snapshot)
	}
	return resp, nil
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// describe makes the description of a snapshot, if it has the labels. One that
// cannot be read has none, and says why among its failures.
func (r *repository) describe(id string, labels map[string]string) (*pluginv1.Snapshot, bool) {
	m, err := r.load(id)
	if sdk.FromError(err) != nil && sdk.FromError(err).Code == codes.NotFound {
		return nil, false // deleted meanwhile
	}
	if err != nil {
		return &pluginv1.Snapshot{
			Id: id, Pinned: r.pinned(id), Failures: []*pluginv1.PathFailure{{Message: err.Error()}},
		}, len(labels) == 0
	}
	for k, v := range labels {
		if got, has := m.Labels[k]; !has || got != v {
			return nil, false
		}
	}
	return m.proto(r.pinned(id)), true
}

// proto converts the description of a snapshot.
func (m *manifest) proto(pinned bool) *pluginv1.Snapshot {
	s := &pluginv1.Snapshot{
		Id: m.ID, CreatedAt: timestamppb.New(m.CreatedAt), Root: m.Root.Text(), Files: m.Files, Bytes: m.Bytes,
		Pinned: pinned, Labels: m.Labels, ManifestSha256: m.sum.bytes(), StoredBytes: m.Stored,
	}
	if m.Parent != nil {
		s.ParentSha256 = m.Parent.SHA256.bytes()
	}
	s.Failures = tree.PathFailures(m.failures)
	return s
}

func (d digest) bytes() []byte {
	raw, _ := hex.DecodeString(string(d)) // it was checked when it was read
	return raw
}

// Delete implements [backup.Backup].
func (b *files) Delete(ctx context.Context, req *pluginv1.DeleteRequest) (*pluginv1.DeleteResponse, error) {
	s, err := b.ready()
	if err != nil {
		return nil, err
	}
	unlock, err := s.repo.lockBoth(ctx, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, id := range req.GetSnapshotIds() {
		if err := s.repo.deletable(id); err != nil {
			return nil, err
		}
	}
	if err := s.repo.forget(req.GetSnapshotIds()); err != nil {
		return nil, ioError("delete snapshots", err)
	}
	if _, _, err := s.repo.collect(&tree.Progress{}); err != nil {
		return nil, ioError("free the space of deleted snapshots", err)
	}
	return &pluginv1.DeleteResponse{DeletedIds: req.GetSnapshotIds()}, nil
}

// deletable refuses to delete what is pinned or never was. A snapshot that is
// lost, but which others know, can be deleted: so its loss is accepted.
func (r *repository) deletable(id string) error {
	if seqOf(id) == 0 || exists(r.path(goneName(id))) {
		return notFound(id)
	}
	if r.pinned(id) {
		return sdk.Errorf(codes.FailedPrecondition, "SNAPSHOT_PINNED", "snapshot %s is pinned", id).WithRemedy("unpin it first")
	}
	if err := r.live(id); err != nil && r.claim(id) == "" {
		return err
	}
	return nil
}

// lockBoth takes both locks, the first as how says.
func (r *repository) lockBoth(ctx context.Context, how int) (unlock func(), err error) {
	usage, err := r.lock(ctx, usageLock, how)
	if err != nil {
		return nil, err
	}
	commit, err := r.lock(ctx, commitLock, unix.LOCK_EX)
	if err != nil {
		usage.release()
		return nil, err
	}
	return func() { commit.release(); usage.release() }, nil
}

// Pin implements [backup.Backup].
func (b *files) Pin(ctx context.Context, req *pluginv1.PinRequest) (*pluginv1.PinResponse, error) {
	s, err := b.ready()
	if err != nil {
		return nil, err
	}
	unlock, err := s.repo.lockBoth(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	id := req.GetSnapshotId()
	if err := s.repo.live(id); err != nil {
		return nil, err
	}
	if err := s.repo.pin(id, req.GetPinned()); err != nil {
		return nil, ioError("pin the snapshot", err)
	}
	snapshot, _ := s.repo.describe(id, nil)
	return &pluginv1.PinResponse{Snapshot: snapshot}, nil
}
