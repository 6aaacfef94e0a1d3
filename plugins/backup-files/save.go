package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

const (
	// syncEach is up to how many files each is synced by itself; with more the
	// whole file system is, once.
	syncEach = 64
	// entryCost is what a path costs at most besides its content, in bytes: a
	// line of the manifest and the last block of an object.
	entryCost = 4096 + 512
)

// save is one call of Save.
type save struct {
	*service
	req   *pluginv1.SaveRequest
	scan  *tree.Scan
	files *tree.Reader
	// sync makes the content of each object durable at once.
	sync     bool
	progress tree.Progress

	mu      sync.Mutex // guards the following
	objects []pending
}

// Save implements [backup.Backup].
func (b *files) Save(ctx context.Context, req *pluginv1.SaveRequest, tell backup.ProgressFunc) (*pluginv1.Snapshot, error) {
	s, err := b.ready()
	if err != nil {
		return nil, err
	}
	paths, err := tree.LocalPaths(req.GetPaths(), req.GetRawPaths())
	excluded, excludedErr := tree.LocalPaths(nil, req.GetExcluded())
	if err = errors.Join(tree.Absolute("root", req.GetRoot()), err, excludedErr); err != nil {
		return nil, sdk.FromError(err)
	}
	usage, err := s.repo.lock(ctx, usageLock, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	m, err := s.save(ctx, req, paths, excluded, tell)
	usage.release()
	if err != nil {
		return nil, err
	}
	return m.proto(false), nil
}

// save makes a snapshot; the usage lock is held.
func (s *service) save(ctx context.Context, req *pluginv1.SaveRequest, paths, excluded []tree.Path, tell backup.ProgressFunc) (*manifest, error) {
	root, err := tree.Open(req.GetRoot())
	if err != nil {
		return nil, sdk.Errorf(codes.NotFound, "ROOT_UNREADABLE", "open the directory to save: %w", err)
	}
	defer root.Close()
	disk, err := os.Open(s.repo.dir) // before anything is written, so that syncfs sees every error
	if err != nil {
		return nil, ioError("open the repository", err)
	}
	defer disk.Close() //nolint:errcheck // a directory that was read only
	scan, err := tree.NewScan(ctx, root, tree.Selection{Paths: paths, Excluded: excluded, Own: s.repo.inode, Limit: s.settings.maxFiles})
	if err != nil {
		return nil, err
	}
	if err := s.room(scan); err != nil {
		return nil, err
	}
	job := &save{
		service: s, req: req, scan: scan, sync: scan.Regular() <= syncEach, progress: tree.Progress{Tell: tell},
		files: &tree.Reader{Tree: root, Limit: s.settings.maxFileSize},
	}
	return job.run(ctx, disk)
}

// room refuses at once what would not fit.
func (s *service) room(scan *tree.Scan) error {
	size := scan.Size()
	if size > s.settings.maxSize {
		return sdk.Errorf(codes.ResourceExhausted, "SNAPSHOT_TOO_LARGE", "there are up to %d bytes to save and max_size allows %d", size, s.settings.maxSize).
			WithRemedy("name fewer paths, or raise max_size")
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(s.repo.dir, &disk); err != nil {
		return ioError("look for space", err)
	}
	free := int64(disk.Bavail) * disk.Bsize
	if needed := size + int64(len(scan.Nodes))*entryCost + s.settings.minFree; needed > free {
		return ioError("save", fmt.Errorf("%w: up to %d bytes are needed, min_free included, and %d are free", unix.ENOSPC, needed, free))
	}
	return nil
}

// run reads everything and commits it.
func (s *save) run(ctx context.Context, disk *os.File) (*manifest, error) {
	describer := &tree.Describer{
		Scan: s.scan, File: s.file, Count: s.progress.Add,
		Fatal: func(err error) bool { return repositoryFailed(err, s.repo.dir) },
	}
	entries, failed, err := describer.Run(ctx)
	if err == nil && !s.sync {
		err = tree.SyncFS(disk)
	}
	if err != nil {
		s.abandon()
		return nil, fatal(ctx, err)
	}
	m, err := s.compose(entries, failed)
	if err != nil {
		s.abandon()
		return nil, err
	}
	commit, err := s.repo.lock(ctx, commitLock, unix.LOCK_EX)
	if err != nil {
		s.abandon()
		return nil, err
	}
	defer commit.release()
	if err := s.repo.commit(m, func() error { return s.repo.publish(s.objects) }); err != nil {
		s.abandon()
		return nil, ioError("save", err)
	}
	return m, nil
}

// fatal is the error of a save that was given up.
func fatal(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return ioError("save", err)
}

// compose describes what was read.
func (s *save) compose(entries []*tree.Entry, failed []tree.Failure) (*manifest, error) {
	m := &manifest{entries: entries, failures: failed}
	m.CreatedAt, m.Labels, m.Excluded = s.now().UTC(), s.req.GetLabels(), s.scan.Excluded
	m.Root = tree.Path(filepath.Clean(s.req.GetRoot()))
	for _, e := range entries {
		if e.Type == tree.TypeFile {
			m.Files, m.Bytes = m.Files+1, m.Bytes+e.Size
		}
	}
	for _, p := range s.objects {
		m.Stored += p.stored
	}
	// What would be refused when it is read must not be acknowledged.
	return m, tree.CheckEntries(entries)
}

// file stores one regular file.
func (s *save) file(n *tree.Node) (tree.Entry, error) {
	e, content, err := tree.Read(s.files, n.Path, func(*tree.Entry) *objectWriter { return s.repo.newObject() })
	if err != nil {
		return e, err
	}
	object, err := content.finish(s.sync)
	if err != nil {
		return e, err
	}
	e.Object = string(object.sum)
	if object.temp != "" {
		s.mu.Lock()
		s.objects = append(s.objects, object)
		s.mu.Unlock()
	}
	return e, nil
}

// repositoryFailed tells an error of the repository, which ends a save, from one
// of a file that is to be saved.
func repositoryFailed(err error, dir string) bool {
	var pe *os.PathError
	return tree.NoSpace(err) || errors.As(err, &pe) && strings.HasPrefix(pe.Path, dir+"/")
}

// abandon removes what was written. What cannot be removed is swept later.
func (s *save) abandon() {
	for _, p := range s.objects {
		_ = os.Remove(p.temp)
	}
}
