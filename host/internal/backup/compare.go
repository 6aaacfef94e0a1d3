package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// CompareRequest says what is compared with a snapshot.
type CompareRequest struct {
	Snapshot string // id, or an unambiguous beginning of it
	// Against is another snapshot, later in time; empty: a directory.
	Against string
	// Target is the directory; empty: where the snapshot was made.
	Target string
	Paths  []string // empty: everything
	// Thorough reads the content of snapshots whose hashes were not kept. Without
	// it, a file of theirs with the same size and time is taken for the same.
	Thorough bool
	By       string         // for the token
	Progress func(Progress) // of a comparison with a directory; nil is fine
	Key      string         // by which [Service.Watch] finds it; empty: not at all
}

// Comparison is what differs.
type Comparison struct {
	Snapshot *Snapshot
	Against  *Snapshot // nil: a directory
	Target   string
	Compared int64 // paths
	// Differences are the first of Differing, by path.
	Differences []Difference
	Differing   int64
}

// Difference is a path that is not as the snapshot has it.
type Difference struct {
	Path string // bytes, as on disk
	Kind DifferenceKind
	// Detail says what it is in words; empty where the kind says all.
	Detail string
}

// DifferenceKind is in which way a path differs from the snapshot.
type DifferenceKind string

// The kinds of differences, as seen from the snapshot.
const (
	Missing DifferenceKind = "missing" // it is in the snapshot only
	Added   DifferenceKind = "added"   // it is not in the snapshot
	Type    DifferenceKind = "type"
	Content DifferenceKind = "content"
	Mode    DifferenceKind = "mode"
	Unread  DifferenceKind = "unread" // what is there could not be looked at
)

// MaxDifferences bounds what a comparison lists.
const MaxDifferences = 10_000

// maxEntries bounds the entries of a snapshot that are held in memory.
const maxEntries = 5_000_000

// node is a path in a snapshot or a directory.
type node struct {
	kind   string // as in pluginv1.SnapshotEntry
	mode   uint32
	size   int64
	nano   int64 // when it was modified
	target string
	sum    []byte // SHA-256 of the content; nil: not known
}

// Compare says what differs between a snapshot and a directory, or a later
// snapshot.
func (s *Service) Compare(ctx context.Context, r CompareRequest) (*Comparison, error) {
	if err := checkPaths(r.Paths); err != nil {
		return nil, err
	}
	snap, err := s.Store.Get(ctx, r.Snapshot)
	if err != nil {
		return nil, err
	}
	out := &Comparison{Snapshot: snap}
	expected := Progress{}
	if len(r.Paths) == 0 {
		expected = Progress{Files: snap.Files, Bytes: snap.Bytes}
	}
	tell, end := s.under.begin(r.Key, expected, r.Progress)
	defer end()
	before, err := s.contents(ctx, snap, r)
	if err != nil {
		return nil, err
	}
	if r.Against != "" {
		if out.Against, err = s.Store.Get(ctx, r.Against); err != nil {
			return nil, err
		}
		after, err := s.contents(ctx, out.Against, r)
		if err != nil {
			return nil, err
		}
		out.add(before, after)
		return out, ctx.Err()
	}
	if out.Target, err = s.target(snap, r.Target); err != nil {
		return nil, err
	}
	return out, out.withTree(ctx, before, r, tell)
}

// contents are the entries of a snapshot that is the one that was saved.
func (s *Service) contents(ctx context.Context, snap *Snapshot, r CompareRequest) (map[string]node, error) {
	entries := make(map[string]node)
	err := s.Contents(ctx, ContentsRequest{Snapshot: snap.ID, Paths: r.Paths, Thorough: r.Thorough}, func(all []*pluginv1.SnapshotEntry) error {
		for _, e := range all {
			entries[string(e.GetPath())] = node{e.GetType(), e.GetMode(), e.GetSize(), e.GetModified().AsTime().UnixNano(), string(e.GetTarget()), e.GetSha256()}
		}
		if len(entries) > maxEntries {
			return sdk.Errorf(codes.ResourceExhausted, "BACKUP_TOO_LARGE", "the snapshot has more than %d paths", maxEntries).
				WithRemedy("name a directory in it")
		}
		return nil
	})
	return entries, err
}

// ContentsRequest says of what entries are wanted.
type ContentsRequest struct {
	Snapshot string   // id, or an unambiguous beginning of it
	Paths    []string // empty: everything
	Thorough bool     // see [CompareRequest]
}

// Contents sends what a snapshot holds, some entries at a time.
func (s *Service) Contents(ctx context.Context, r ContentsRequest, send func([]*pluginv1.SnapshotEntry) error) error {
	if err := checkPaths(r.Paths); err != nil {
		return err
	}
	snap, err := s.Store.Get(ctx, r.Snapshot)
	if err != nil {
		return err
	}
	_, client, err := s.plugin(snap.Plugin)
	if err != nil {
		return err
	}
	return s.granted(ctx, snap.Plugin, snap.Workspace, "contents "+snap.ID, func(secret string) error {
		if err := s.genuine(ctx, client, secret, snap); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // releases the stream
		stream, err := client.Contents(ctx, &pluginv1.ContentsRequest{Token: secret, SnapshotId: snap.Ref, Paths: rawPaths(r.Paths), Digests: r.Thorough})
		for err == nil {
			var resp *pluginv1.ContentsResponse
			if resp, err = stream.Recv(); err == nil {
				err = send(resp.GetEntries())
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}

// note keeps a difference, as far as there is room.
func (c *Comparison) note(path string, kind DifferenceKind, format string, args ...any) {
	c.Differing++
	if len(c.Differences) < MaxDifferences {
		c.Differences = append(c.Differences, Difference{path, kind, fmt.Sprintf(format, args...)})
	}
}

// finish puts the differences in order.
func (c *Comparison) finish() {
	slices.SortFunc(c.Differences, func(a, b Difference) int { return strings.Compare(a.Path, b.Path) })
}

// add compares two snapshots.
func (c *Comparison) add(before, after map[string]node) {
	for p, old := range before {
		c.Compared++
		if now, ok := after[p]; ok {
			c.compare(p, old, now)
		} else {
			c.note(p, Missing, "")
		}
	}
	for p := range after {
		if _, ok := before[p]; !ok {
			c.Compared++
			c.note(p, Added, "")
		}
	}
	c.finish()
}

// compare notes in what two paths differ, the most important of it.
func (c *Comparison) compare(p string, old, now node) {
	switch {
	case old.kind != now.kind:
		c.note(p, Type, "it was a %s and is a %s", kindName(old.kind), kindName(now.kind))
	case old.target != now.target:
		c.note(p, Content, "it pointed to %q and points to %q", clip(old.target), clip(now.target))
	case old.kind == kindFile && old.size != now.size:
		c.note(p, Content, "it had %d bytes and has %d", old.size, now.size)
	case old.kind == kindFile && !sameContent(old, now):
		c.note(p, Content, "")
	case old.kind != kindLink && old.mode != now.mode:
		c.note(p, Mode, "it was %04o and is %04o", old.mode, now.mode)
	}
}

// sameContent compares the hashes, and where there is one that is not known the
// times.
func sameContent(old, now node) bool {
	if len(old.sum) > 0 && len(now.sum) > 0 {
		return bytes.Equal(old.sum, now.sum)
	}
	return old.nano == now.nano
}

// The kinds of paths, as plugins call them.
const (
	kindFile = "file"
	kindDir  = "dir"
	kindLink = "symlink"
)

func kindName(kind string) string {
	switch kind {
	case kindDir:
		return "directory"
	case kindLink:
		return "symbolic link"
	}
	return kind
}

// withTree compares with what there is beneath the target. A target that does
// not exist is empty.
func (c *Comparison) withTree(ctx context.Context, before map[string]node, r CompareRequest, tell func(Progress)) error {
	defer c.finish()
	root, err := os.OpenRoot(c.Target)
	if errors.Is(err, fs.ErrNotExist) {
		c.add(before, nil)
		return nil
	}
	if err != nil {
		return sdk.Errorf(codes.FailedPrecondition, "BACKUP_TARGET", "open the directory to compare with: %w", err).WithField("target", "")
	}
	defer root.Close() //nolint:errcheck // it was read only
	var done Progress
	for p, old := range before {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.Compared++
		if old.kind == kindFile && tell != nil {
			done.Files, done.Bytes = done.Files+1, done.Bytes+old.size
			tell(done)
		}
		now, err := look(root, p, len(old.sum) > 0)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			c.note(p, Missing, "")
		case err != nil:
			c.note(p, Unread, "%s", clip(reason(err)))
		default:
			c.compare(p, old, now)
		}
	}
	for _, top := range c.covered(r.Paths) {
		if before[top].kind == kindDir || top == "." {
			if err := c.added(ctx, root, top, before); err != nil {
				return err
			}
		}
	}
	return nil
}

// covered are the paths beneath which the snapshot holds everything.
func (c *Comparison) covered(asked []string) []string {
	if len(asked) > 0 {
		return asked
	}
	if len(c.Snapshot.Paths) > 0 {
		return c.Snapshot.Paths
	}
	return []string{"."}
}

// added notes what is beneath a directory and not in the snapshot: of a
// directory that is not, only itself.
func (c *Comparison) added(ctx context.Context, root *os.Root, dir string, before map[string]node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := root.Open(dir)
	if err != nil {
		return nil //nolint:nilerr // that it is missing, or unreadable, was noted
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		c.note(dir, Unread, "%s", clip(reason(err)))
		return nil
	}
	for _, name := range names {
		p := path.Join(dir, name)
		old, known := before[p]
		switch {
		case slices.Contains(c.Snapshot.Excluded, p):
		case !known:
			c.note(p, Added, "")
		case old.kind == kindDir:
			info, err := root.Lstat(p)
			if err != nil || !info.IsDir() {
				continue // noted as missing, or of another type
			}
			if err := c.added(ctx, root, p, before); err != nil {
				return err
			}
		}
	}
	return nil
}

// look describes what is at a path, a symbolic link itself, with the hash of its
// content if it is asked for.
func look(root *os.Root, p string, sum bool) (node, error) {
	info, err := root.Lstat(p)
	if err != nil {
		return node{}, err
	}
	n := node{kind: kindOf(info.Mode()), mode: modeOf(info.Mode()), nano: info.ModTime().UnixNano()}
	switch n.kind {
	case kindLink:
		n.target, err = root.Readlink(p)
	case kindFile:
		n.size = info.Size()
		if sum {
			n.sum, err = hashFile(root, p)
		}
	}
	return n, err
}

func hashFile(root *os.Root, p string) ([]byte, error) {
	f, err := root.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), errors.Join(err, f.Close())
}

func kindOf(m fs.FileMode) string {
	for _, k := range []struct {
		bit  fs.FileMode
		name string
	}{
		{fs.ModeDir, kindDir},
		{fs.ModeSymlink, kindLink},
		{fs.ModeNamedPipe, "fifo"},
		{fs.ModeSocket, "socket"},
		{fs.ModeCharDevice, "chardev"},
		{fs.ModeDevice, "blockdev"},
	} {
		if m&k.bit != 0 {
			return k.name
		}
	}
	return kindFile
}

// modeOf is the permission bits with the set-id and sticky bits where Unix has
// them.
func modeOf(m fs.FileMode) uint32 {
	out := uint32(m.Perm())
	for bit, unix := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			out |= unix
		}
	}
	return out
}

// reason is what an error says, without the path that stands beside it.
func reason(err error) string {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err.Error()
	}
	return err.Error()
}
