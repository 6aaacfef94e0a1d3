package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// node is a path that is to be saved, as the scan saw it.
type node struct {
	path     rawPath
	stat     unix.Stat_t
	ancestor bool
}

// scan lists what a save is about, parents before children, without reading a
// file.
type scan struct {
	repo  *repository
	tree  *tree
	limit int // most nodes
	nodes []node
	seen  map[rawPath]int // index in nodes
	// failures are what could not be looked at.
	failures []failure
	leaveOut map[rawPath]bool // as asked
	excluded []rawPath
}

// newScan lists the paths, or everything when there are none, but for what is
// excluded.
func newScan(ctx context.Context, r *repository, t *tree, paths, excluded []rawPath, limit int) (*scan, error) {
	s := &scan{repo: r, tree: t, limit: limit, seen: make(map[rawPath]int), leaveOut: make(map[rawPath]bool)}
	for _, p := range excluded {
		s.leaveOut[p] = true
	}
	if len(paths) == 0 {
		return s, s.children(ctx, ".")
	}
	paths = slices.Clone(paths)
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		if err := s.requested(ctx, p); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// requested lists one path that was asked for, and the directories above it.
func (s *scan) requested(ctx context.Context, p rawPath) error {
	steps := strings.Split(string(p), "/")
	for i := 1; i < len(steps); i++ {
		dir := rawPath(strings.Join(steps[:i], "/"))
		if _, known := s.seen[dir]; known {
			continue
		}
		st, err := s.tree.stat(dir)
		if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = errors.New("it is no directory; symbolic links are not followed")
		}
		if err != nil {
			s.fail(p, fmt.Errorf("%s: %w", dir, err))
			return nil
		}
		if err := s.add(node{dir, st, true}); err != nil {
			return err
		}
	}
	return s.visit(ctx, p)
}

// visit lists a path and what is beneath it.
func (s *scan) visit(ctx context.Context, p rawPath) error {
	if at, known := s.seen[p]; known && !s.nodes[at].ancestor {
		return ctx.Err()
	}
	if s.leaveOut[p] {
		s.excluded = append(s.excluded, p)
		return nil
	}
	st, err := s.tree.stat(p)
	if err != nil {
		s.fail(p, err)
		return ctx.Err()
	}
	if st.Dev == s.repo.dev && st.Ino == s.repo.ino {
		s.excluded = append(s.excluded, p)
		return nil
	}
	if err := s.add(node{p, st, false}); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return ctx.Err()
	}
	return s.children(ctx, p)
}

// children lists what is in a directory.
func (s *scan) children(ctx context.Context, dir rawPath) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := s.tree.openDir(dir)
	if err != nil {
		s.fail(dir, err)
		return nil
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		s.fail(dir, err) // and go on with the names there are
	}
	slices.Sort(names)
	for _, name := range names {
		if err := s.visit(ctx, rawPath(path.Join(string(dir), name))); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) add(n node) error {
	if at, known := s.seen[n.path]; known {
		s.nodes[at].ancestor = s.nodes[at].ancestor && n.ancestor
		return nil
	}
	if len(s.nodes) >= s.limit {
		return sdk.Errorf(codes.ResourceExhausted, "TOO_MANY_FILES", "there are more than %d paths to save", s.limit).
			WithRemedy("name fewer paths, or raise max_files")
	}
	s.seen[n.path] = len(s.nodes)
	s.nodes = append(s.nodes, n)
	return nil
}

func (s *scan) fail(p rawPath, err error) {
	s.failures = append(s.failures, failure{p, reasonOf(err)})
}

// reasonOf leaves out the path, which stands beside the message.
func reasonOf(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) && errors.Is(pe.Err, unix.ENOENT) {
		return "it does not exist"
	}
	if errors.As(err, &pe) {
		return pe.Op + ": " + pe.Err.Error()
	}
	return err.Error()
}

// size is how many bytes the files take, at most: holes take none, and what has
// two names is counted once.
func (s *scan) size() (total int64) {
	counted := make(map[[2]uint64]bool)
	for i := range s.nodes {
		st := &s.nodes[i].stat
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if id := [2]uint64{st.Dev, st.Ino}; st.Nlink < 2 || !counted[id] {
			counted[id] = true
			total += dataSize(st)
		}
	}
	return total
}

// dataSize is at most how many bytes of a file are no holes. A file of less than
// a block may take none.
func dataSize(st *unix.Stat_t) int64 {
	return min(st.Size, max(st.Blocks*512, 4096))
}

// regular counts the files that will be read.
func (s *scan) regular() (n int) {
	for i := range s.nodes {
		if s.nodes[i].stat.Mode&unix.S_IFMT == unix.S_IFREG {
			n++
		}
	}
	return n
}

// entryOf describes a node from what stat says.
func entryOf(p rawPath, st *unix.Stat_t) entry {
	e := entry{
		Path: p, Mode: octal(st.Mode & 0o7777), UID: st.Uid, GID: st.Gid,
		Modified: stamp{st.Mtim.Sec, st.Mtim.Nsec}, Accessed: stamp{st.Atim.Sec, st.Atim.Nsec},
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = typeFile, st.Size
	case unix.S_IFDIR:
		e.Type = typeDir
	case unix.S_IFLNK:
		e.Type = typeSymlink
	case unix.S_IFIFO:
		e.Type = typeFifo
	case unix.S_IFSOCK:
		e.Type = typeSocket
	case unix.S_IFCHR:
		e.Type, e.Device = typeChar, st.Rdev
	case unix.S_IFBLK:
		e.Type, e.Device = typeBlock, st.Rdev
	}
	return e
}

// readLink returns where a symbolic link points.
func (t *tree) readLink(p rawPath) (rawPath, error) {
	f, err := t.open(p, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it was not even opened for reading
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: string(p), Err: err}
	}
	return rawPath(buf[:n]), nil
}
