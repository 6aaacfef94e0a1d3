package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	kopiafs "github.com/kopia/kopia/fs"
	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/snapshot"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/plugins/internal/tree"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/backup"
)

// entryCost is what a path costs at most besides its content, in bytes: in a
// directory of kopia, in the record, in the index.
const entryCost = 1024

// save is one call of Save.
type save struct {
	*repository
	view    *view
	req     *pluginv1.SaveRequest
	paths   []tree.Path
	began   time.Time
	scan    *tree.Scan
	files   *tree.Reader
	objects *uploader
	// before are the files of an earlier snapshot by their paths, for those that
	// have not changed; empty: all are read.
	before   map[tree.Path]*tree.Entry
	hashedAt time.Time
	progress tree.Progress
	uploaded atomic.Int64 // bytes
}

// Save implements [backup.Backup].
func (p *plugin) Save(ctx context.Context, req *pluginv1.SaveRequest, tell backup.ProgressFunc) (*pluginv1.Snapshot, error) {
	r, err := p.ready()
	if err != nil {
		return nil, err
	}
	paths, err := tree.LocalPaths(req.GetPaths(), req.GetRawPaths())
	excluded, excludedErr := tree.LocalPaths(nil, req.GetExcluded())
	if err = errors.Join(tree.Absolute("root", req.GetRoot()), err, excludedErr); err != nil {
		return nil, sdk.FromError(err)
	}
	root, err := tree.Open(req.GetRoot())
	if err != nil {
		return nil, sdk.Errorf(codes.NotFound, "ROOT_UNREADABLE", "open the directory to save: %w", err)
	}
	defer root.Close()
	v, err := r.writable(ctx)
	if err != nil {
		return nil, err
	}
	s := &save{
		repository: r, view: v, req: req, paths: paths, began: p.time().UTC(), progress: tree.Progress{Tell: tell},
		files: &tree.Reader{Tree: root, Limit: r.settings.maxFileSize},
	}
	m, err := s.run(ctx, root, tree.Selection{Paths: paths, Excluded: excluded, Own: r.inode, Limit: r.settings.maxFiles})
	if err != nil {
		return nil, ioError(ctx, "save", err)
	}
	return m.proto(false)
}

// run makes the snapshot. It is durable when it returns.
func (s *save) run(ctx context.Context, root *tree.Tree, what tree.Selection) (m *record, err error) {
	c, err := s.look(ctx, root, what)
	if err != nil {
		return nil, err
	}
	if err := s.room(); err != nil {
		return nil, err
	}
	err = s.durably(func() error {
		m, err = s.write(ctx, c.next())
		return err
	})
	return m, err
}

// look finds out what there is to save and, at the same time, what has been saved
// before.
func (s *save) look(ctx context.Context, root *tree.Tree, what tree.Selection) (c *catalogue, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		s.scan, err = tree.NewScan(ctx, root, what)
		return err
	})
	group.Go(func() (err error) {
		if c, err = s.view.catalogue(ctx); err != nil {
			return err
		}
		return s.compareWith(ctx, c)
	})
	err = group.Wait() // before c is looked at
	return c, err
}

// compareWith finds the snapshot with which files are compared: the latest of the
// same directory, unless it is time to read everything.
func (s *save) compareWith(ctx context.Context, c *catalogue) error {
	s.hashedAt = s.began
	root := s.root()
	for _, id := range slices.Backward(c.ids) {
		if !c.records[id] || c.manifests[id] == nil {
			continue // what kopia does not know may lose its content
		}
		h, err := s.view.readHead(ctx, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || h.Root != root || !slices.Equal(h.Paths, s.paths) {
			continue
		}
		if age := s.began.Sub(h.HashedAt); age < 0 || age >= s.settings.rehash {
			return nil
		}
		m, err := s.view.readRecord(ctx, id)
		if err != nil {
			continue // verify names it
		}
		s.hashedAt, s.before = h.HashedAt, make(map[tree.Path]*tree.Entry, len(m.entries))
		for _, e := range m.entries {
			if e.Type == tree.TypeFile {
				s.before[e.Path] = e
			}
		}
		return nil
	}
	return nil
}

func (s *save) root() tree.Path { return tree.Path(filepath.Clean(s.req.GetRoot())) }

// known is the earlier entry of a file that has not changed since, nil: it has
// to be read. What no program can set tells: the time of change and the inode.
func (s *save) known(ctx context.Context, n *tree.Node) *tree.Entry {
	e := s.before[n.Path]
	now := tree.EntryOf(n.Path, &n.Stat)
	if e == nil || now.Type != tree.TypeFile || e.Changed == (tree.Stamp{}) ||
		e.Changed != now.Changed || e.Inode != now.Inode || e.Size != now.Size || e.Modified != now.Modified {
		return nil
	}
	id, err := objectOf(e)
	if err != nil {
		return nil
	}
	if content, _, direct := id.ContentID(); direct {
		if info, err := s.view.rep.ContentInfo(ctx, content); err != nil || info.Deleted {
			return nil
		}
	} else if _, err := s.view.rep.VerifyObject(ctx, id); err != nil {
		return nil
	}
	copied := *e
	copied.HardLink, copied.Ancestor = "", false
	return &copied
}

// room refuses at once what would not fit. What has not changed takes no space.
func (s *save) room() error {
	var size, changed int64
	counted := make(map[tree.Inode]bool)
	for i := range s.scan.Nodes {
		n := &s.scan.Nodes[i]
		id := tree.Inode{Dev: n.Stat.Dev, Ino: n.Stat.Ino}
		if n.Stat.Mode&unix.S_IFMT != unix.S_IFREG || counted[id] {
			continue
		}
		counted[id] = n.Stat.Nlink > 1
		size += tree.DataSize(&n.Stat)
		if e := s.before[n.Path]; e == nil || e.Changed != (tree.Stamp{n.Stat.Ctim.Sec, n.Stat.Ctim.Nsec}) {
			changed += tree.DataSize(&n.Stat)
		}
	}
	if size > s.settings.maxSize {
		return sdk.Errorf(codes.ResourceExhausted, "SNAPSHOT_TOO_LARGE", "there are up to %d bytes to save and max_size allows %d", size, s.settings.maxSize).
			WithRemedy("name fewer paths, or raise max_size")
	}
	if s.dir == nil {
		return nil
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(s.dir.dir, &disk); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	free := int64(disk.Bavail) * disk.Bsize
	if needed := changed + int64(len(s.scan.Nodes))*entryCost + s.settings.minFree; needed > free {
		return fmt.Errorf("%w: up to %d bytes are needed, min_free included, and %d are free", unix.ENOSPC, needed, free)
	}
	return nil
}

// write writes what the snapshot is made of: contents, directories, the manifest
// of kopia, and last the record, which says that it is there.
func (s *save) write(ctx context.Context, seq uint64) (*record, error) {
	wctx, w, err := s.view.rep.NewDirectWriter(ctx, repo.WriteSessionOptions{
		Purpose: "save", OnUpload: func(n int64) { s.uploaded.Add(n) },
	})
	if err != nil {
		return nil, err
	}
	m, body, err := s.fill(wctx, w, seq)
	if err = errors.Join(err, w.Close(context.WithoutCancel(ctx))); err != nil {
		return nil, err
	}
	lines := <-body
	if lines.err != nil {
		return nil, lines.err
	}
	f, err := readFormat(ctx, s.store)
	if err != nil {
		return nil, err
	}
	m.Stored = s.uploaded.Load()
	sealed, err := s.view.seal.encode(m, lines.packed, f)
	if err != nil {
		return nil, err
	}
	m.Stored += int64(len(sealed))
	return m, s.store.PutBlob(ctx, recordBlob(m.ID), data(sealed), blob.PutOptions{})
}

// fill writes what stands before the record, whose body is made meanwhile.
func (s *save) fill(ctx context.Context, w repo.DirectRepositoryWriter, seq uint64) (*record, <-chan packedLines, error) {
	s.objects = &uploader{ctx: ctx, w: w, compression: s.settings.compression}
	describer := &tree.Describer{
		Scan: s.scan, Count: s.progress.Add, File: func(n *tree.Node) (tree.Entry, error) { return s.file(ctx, n) },
		Fatal: func(err error) bool {
			var failed storeError
			return errors.As(err, &failed) || tree.NoSpace(err)
		},
	}
	entries, failed, err := describer.Run(ctx)
	if err != nil {
		return nil, nil, err
	}
	m := &record{entries: entries}
	m.description = description{
		ID: newID(seq), CreatedAt: s.began, Root: s.root(), Labels: s.req.GetLabels(), Paths: s.paths, Excluded: s.scan.Excluded, Failures: failed, HashedAt: s.hashedAt,
	}
	for _, e := range entries {
		if e.Type == tree.TypeFile {
			m.Files, m.Bytes = m.Files+1, m.Bytes+e.Size
		}
	}
	// What would be refused when it is read must not be acknowledged.
	if err := tree.CheckEntries(entries); err != nil {
		return nil, nil, err
	}
	body := make(chan packedLines, 1)
	go func() { body <- packLines(entries) }()
	root, err := s.rootEntry()
	if err != nil {
		return nil, nil, err
	}
	dir, err := writeDirectories(ctx, w, &m.description, root, entries)
	if err != nil {
		return nil, nil, err
	}
	dir.Name = escape(filepath.Base(string(m.Root)))
	m.RootObject = dir.ObjectID.String()
	if _, err := snapshot.SaveSnapshot(ctx, w, s.manifest(m, dir)); err != nil {
		return nil, nil, err
	}
	return m, body, w.Flush(ctx)
}

// file stores one regular file, unless it is known.
func (s *save) file(ctx context.Context, n *tree.Node) (tree.Entry, error) {
	if e := s.known(ctx, n); e != nil {
		return *e, nil
	}
	e, content, err := tree.Read(s.files, n.Path, s.objects.begin)
	if err != nil {
		return e, err
	}
	id, err := content.finish()
	if err != nil {
		return e, err
	}
	e.Object = id.String()
	if time.Since(time.Unix(e.Changed[0], e.Changed[1])) < s.fresh {
		e.Changed = tree.Stamp{} // the next change may get the same time
	}
	return e, nil
}

// rootEntry describes the directory itself.
func (s *save) rootEntry() (tree.Entry, error) {
	var st unix.Stat_t
	if err := unix.Stat(s.req.GetRoot(), &st); err != nil {
		return tree.Entry{}, &os.PathError{Op: "stat", Path: s.req.GetRoot(), Err: err}
	}
	return tree.EntryOf(".", &st), nil
}

// manifest is the snapshot as the kopia client knows it.
func (s *save) manifest(m *record, dir *snapshot.DirEntry) *snapshot.Manifest {
	tags := map[string]string{idTag: m.ID}
	for k, v := range m.Labels {
		if tagOf(k) != idTag {
			tags[tagOf(k)] = v
		}
	}
	return &snapshot.Manifest{
		Source:      snapshot.SourceInfo{Host: s.settings.hostName, UserName: userName, Path: escape(string(m.Root))},
		Description: "saved by SOP", StartTime: kopiafs.UTCTimestampFromTime(s.began), EndTime: kopiafs.UTCTimestampFromTime(time.Now()),
		RootEntry: dir, Tags: tags,
		Stats: snapshot.Stats{
			TotalFileCount: int32(min(m.Files, 1<<31-1)), TotalFileSize: m.Bytes,
			TotalDirectoryCount: int32(min(dir.DirSummary.TotalDirCount, 1<<31-1)), ErrorCount: int32(min(len(m.Failures), 1<<31-1)),
		},
	}
}
