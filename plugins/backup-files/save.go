package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

const (
	// readers is how many files are read and synced at once.
	readers = 8
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
	root  *tree
	scan  *scan
	files *reader

	mu       sync.Mutex // guards the following
	progress progress
	objects  []pending
	failures []failure
}

// Save implements [backup.Backup].
func (b *files) Save(ctx context.Context, req *pluginv1.SaveRequest, tell backup.ProgressFunc) (*pluginv1.Snapshot, error) {
	s, err := b.ready()
	if err != nil {
		return nil, err
	}
	paths, err := localPaths(req.GetPaths(), req.GetRawPaths())
	excluded, excludedErr := localPaths(nil, req.GetExcluded())
	if err = errors.Join(absolute("root", req.GetRoot()), err, excludedErr); err != nil {
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
func (s *service) save(ctx context.Context, req *pluginv1.SaveRequest, paths, excluded []rawPath, tell backup.ProgressFunc) (*manifest, error) {
	root, err := openTree(req.GetRoot())
	if err != nil {
		return nil, sdk.Errorf(codes.NotFound, "ROOT_UNREADABLE", "open the directory to save: %w", err)
	}
	defer root.close()
	disk, err := os.Open(s.repo.dir) // before anything is written, so that syncfs sees every error
	if err != nil {
		return nil, ioError("open the repository", err)
	}
	defer disk.Close() //nolint:errcheck // a directory that was read only
	scan, err := newScan(ctx, s.repo, root, paths, excluded, s.settings.maxFiles)
	if err != nil {
		return nil, err
	}
	if err := s.room(scan); err != nil {
		return nil, err
	}
	job := &save{service: s, req: req, root: root, scan: scan, progress: progress{tell: tell}, failures: scan.failures}
	job.files = &reader{repo: s.repo, tree: root, limit: s.settings.maxFileSize, sync: scan.regular() <= syncEach}
	return job.run(ctx, disk)
}

// room refuses at once what would not fit.
func (s *service) room(scan *scan) error {
	size := scan.size()
	if size > s.settings.maxSize {
		return sdk.Errorf(codes.ResourceExhausted, "SNAPSHOT_TOO_LARGE", "there are up to %d bytes to save and max_size allows %d", size, s.settings.maxSize).
			WithRemedy("name fewer paths, or raise max_size")
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(s.repo.dir, &disk); err != nil {
		return ioError("look for space", err)
	}
	free := int64(disk.Bavail) * disk.Bsize
	if needed := size + int64(len(scan.nodes))*entryCost + s.settings.minFree; needed > free {
		return ioError("save", fmt.Errorf("%w: up to %d bytes are needed, min_free included, and %d are free", unix.ENOSPC, needed, free))
	}
	return nil
}

// run reads everything and commits it.
func (s *save) run(ctx context.Context, disk *os.File) (*manifest, error) {
	entries, err := s.readAll(ctx)
	if err == nil && !s.files.sync {
		err = syncFS(disk)
	}
	if err != nil {
		s.abandon()
		return nil, fatal(ctx, err)
	}
	m, err := s.compose(entries)
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
func (s *save) compose(entries []entry) (*manifest, error) {
	m := &manifest{entries: entries, failures: s.failures}
	m.CreatedAt, m.Labels, m.Excluded = s.now().UTC(), s.req.GetLabels(), s.scan.excluded
	m.Root = rawPath(filepath.Clean(s.req.GetRoot()))
	for i := range entries {
		if entries[i].Type == typeFile {
			m.Files, m.Bytes = m.Files+1, m.Bytes+entries[i].Size
		}
	}
	for _, p := range s.objects {
		m.Stored += p.stored
	}
	// What would be refused when it is read must not be acknowledged.
	m.entries, m.failures = orphans(m.entries, m.failures)
	return m, m.checkLinks()
}

// orphans moves what lies in a directory that could not be described from the
// entries to the failures.
func orphans(entries []entry, failed []failure) ([]entry, []failure) {
	dirs := make(map[rawPath]bool)
	kept := entries[:0]
	for _, e := range entries {
		dir := rawPath(filepath.Dir(string(e.Path)))
		if dir != "." && !dirs[dir] {
			failed = append(failed, failure{e.Path, "its directory could not be saved"})
			continue
		}
		dirs[e.Path] = e.Type == typeDir
		kept = append(kept, e)
	}
	return kept, failed
}

// readAll reads the nodes, several at once, and returns the entries of those
// that could be.
func (s *save) readAll(ctx context.Context) ([]entry, error) {
	entries := make([]*entry, len(s.scan.nodes))
	first, links := s.linkGroups()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for i := range s.scan.nodes {
		if _, later := links[i]; later {
			continue
		}
		group.Go(func() (err error) {
			if err := gctx.Err(); err != nil {
				return err
			}
			entries[i], err = s.node(i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i := range s.scan.nodes {
		if at, later := links[i]; later {
			e, err := s.linked(i, entries[first[at]])
			if err != nil {
				return nil, err
			}
			entries[i] = e
		}
	}
	var saved []entry
	for _, e := range entries {
		if e != nil {
			saved = append(saved, *e)
		}
	}
	return saved, nil
}

type inode struct{ dev, ino uint64 }

// linkGroups finds regular files with several names: the first node of each, and
// which later nodes are names of it.
func (s *save) linkGroups() (first map[inode]int, links map[int]inode) {
	first, links = make(map[inode]int), make(map[int]inode)
	for i := range s.scan.nodes {
		st := &s.scan.nodes[i].stat
		if st.Nlink < 2 || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		id := inode{st.Dev, st.Ino}
		if _, known := first[id]; known {
			links[i] = id
		} else {
			first[id] = i
		}
	}
	return first, links
}

// linked describes a further name of a file. If it is not that any more, it is
// read as a file of its own.
func (s *save) linked(i int, original *entry) (*entry, error) {
	n := &s.scan.nodes[i]
	st, err := s.root.stat(n.path)
	if original == nil || err != nil || st.Ino != n.stat.Ino || st.Dev != n.stat.Dev {
		return s.node(i)
	}
	e := *original
	e.Path, e.HardLink = n.path, original.Path
	return &e, s.count(1, 0)
}

// node describes one node, and stores the content of a regular file. The entry
// is nil if that failed and was noted; an error ends the save.
func (s *save) node(i int) (*entry, error) {
	n := &s.scan.nodes[i]
	var e entry
	var object pending
	var err error
	if n.stat.Mode&unix.S_IFMT == unix.S_IFREG {
		e, object, err = s.files.read(n.path)
	} else {
		e, err = s.special(n)
	}
	if err != nil {
		if repositoryFailed(err, s.repo.dir) {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.failures = append(s.failures, failure{n.path, reasonOf(err)})
		return nil, nil
	}
	if object.temp != "" {
		s.mu.Lock()
		s.objects = append(s.objects, object)
		s.mu.Unlock()
	}
	return &e, s.count(1, e.stored())
}

// repositoryFailed tells an error of the repository, which ends a save, from one
// of a file that is to be saved.
func repositoryFailed(err error, dir string) bool {
	var pe *os.PathError
	return noSpace(err) || errors.As(err, &pe) && strings.HasPrefix(pe.Path, dir+"/")
}

// special describes what is no regular file; it is not opened but for the
// attributes of a directory.
func (s *save) special(n *node) (entry, error) {
	e := entryOf(n.path, &n.stat)
	e.Ancestor = n.ancestor
	var err error
	switch e.Type {
	case typeSymlink:
		e.Target, err = s.root.readLink(n.path)
	case typeDir:
		var dir *os.File
		if dir, err = s.root.openDir(n.path); err == nil {
			e.Xattrs, err = readXattrs(dir)
			err = errors.Join(err, dir.Close())
		}
	}
	return e, err
}

func (s *save) count(files, bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress.add(files, bytes)
}

// abandon removes what was written. What cannot be removed is swept later.
func (s *save) abandon() {
	for _, p := range s.objects {
		_ = os.Remove(p.temp)
	}
}
