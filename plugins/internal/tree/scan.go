package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// Node is a path that is to be saved, as the scan saw it.
type Node struct {
	Path Path
	Stat unix.Stat_t
	// Ancestor says that it was not asked for: something beneath it was.
	Ancestor bool
}

// Scan lists what a save is about, parents before children, without reading a
// file.
type Scan struct {
	Nodes []Node
	// Failures are what could not be looked at.
	Failures []Failure
	// Excluded is what was left out.
	Excluded []Path

	tree     *Tree
	own      Inode
	limit    int
	seen     map[Path]int  // index in Nodes
	leaveOut map[Path]bool // as asked
}

// Selection says what is listed.
type Selection struct {
	// Paths, or everything when there are none.
	Paths, Excluded []Path
	// Own is a directory that is left out wherever it is: the repository.
	Own Inode
	// Limit is the most paths.
	Limit int
}

// NewScan lists the selection.
func NewScan(ctx context.Context, t *Tree, sel Selection) (*Scan, error) {
	s := &Scan{tree: t, own: sel.Own, limit: sel.Limit, seen: make(map[Path]int), leaveOut: make(map[Path]bool)}
	for _, p := range sel.Excluded {
		s.leaveOut[p] = true
	}
	if len(sel.Paths) == 0 {
		return s, s.children(ctx, ".")
	}
	paths := slices.Clone(sel.Paths)
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		if err := s.requested(ctx, p); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// requested lists one path that was asked for, and the directories above it.
func (s *Scan) requested(ctx context.Context, p Path) error {
	steps := strings.Split(string(p), "/")
	for i := 1; i < len(steps); i++ {
		dir := Path(strings.Join(steps[:i], "/"))
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
		if err := s.add(Node{dir, st, true}); err != nil {
			return err
		}
	}
	return s.visit(ctx, p)
}

// visit lists a path and what is beneath it.
func (s *Scan) visit(ctx context.Context, p Path) error {
	if at, known := s.seen[p]; known && !s.Nodes[at].Ancestor {
		return ctx.Err()
	}
	if s.leaveOut[p] {
		s.Excluded = append(s.Excluded, p)
		return nil
	}
	st, err := s.tree.stat(p)
	if err != nil {
		s.fail(p, err)
		return ctx.Err()
	}
	if (Inode{st.Dev, st.Ino}) == s.own {
		s.Excluded = append(s.Excluded, p)
		return nil
	}
	if err := s.add(Node{p, st, false}); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return ctx.Err()
	}
	return s.children(ctx, p)
}

// children lists what is in a directory.
func (s *Scan) children(ctx context.Context, dir Path) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := s.tree.OpenDir(dir)
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
		if err := s.visit(ctx, Path(path.Join(string(dir), name))); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scan) add(n Node) error {
	if at, known := s.seen[n.Path]; known {
		s.Nodes[at].Ancestor = s.Nodes[at].Ancestor && n.Ancestor
		return nil
	}
	if len(s.Nodes) >= s.limit {
		return sdk.Errorf(codes.ResourceExhausted, "TOO_MANY_FILES", "there are more than %d paths to save", s.limit).
			WithRemedy("name fewer paths, or raise max_files")
	}
	s.seen[n.Path] = len(s.Nodes)
	s.Nodes = append(s.Nodes, n)
	return nil
}

func (s *Scan) fail(p Path, err error) {
	s.Failures = append(s.Failures, Failure{p, Reason(err)})
}

// Size is how many bytes the files take, at most: holes take none, and what has
// two names is counted once.
func (s *Scan) Size() (total int64) {
	counted := make(map[[2]uint64]bool)
	for i := range s.Nodes {
		st := &s.Nodes[i].Stat
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if id := [2]uint64{st.Dev, st.Ino}; st.Nlink < 2 || !counted[id] {
			counted[id] = true
			total += DataSize(st)
		}
	}
	return total
}

// DataSize is at most how many bytes of a file are no holes. A file of less than
// a block may take none.
func DataSize(st *unix.Stat_t) int64 {
	return min(st.Size, max(st.Blocks*512, 4096))
}

// Regular counts the files that will be read.
func (s *Scan) Regular() (n int) {
	for i := range s.Nodes {
		if s.Nodes[i].Stat.Mode&unix.S_IFMT == unix.S_IFREG {
			n++
		}
	}
	return n
}

// ReadLink returns where a symbolic link points.
func (t *Tree) ReadLink(p Path) (Path, error) {
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
	return Path(buf[:n]), nil
}
