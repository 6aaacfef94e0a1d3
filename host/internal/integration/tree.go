package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/sdk"
)

// A tree is a directory, by its descriptor. Names in it are resolved beneath it
// and never through a link or onto another mount.
type tree struct{ file *os.File }

const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// openTree opens a directory by its path, which may lead through links.
func openTree(name string) (tree, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	return tree{file}, err
}

func (t tree) fd() int { return int(t.file.Fd()) }

func (t tree) close() error { return t.file.Close() }

func (t tree) sync() error { return t.file.Sync() }

func (t tree) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(t.fd(), name, &unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NONBLOCK), Resolve: beneath,
	})
	if errors.Is(err, unix.ENOSYS) {
		return nil, errNoOpenat2
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// errNoOpenat2 is why nothing can be opened safely.
var errNoOpenat2 = sdk.Errorf(codes.FailedPrecondition, ReasonNoOpenat2, "the system call openat2 is not to be had, without which nothing can be integrated").
	WithRemedy("run sop on Linux 5.6 or later, and without a filter that forbids it, such as RestrictSUIDSGID of a systemd unit")

// sub opens a directory of the tree.
func (t tree) sub(name string) (tree, error) {
	file, err := t.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	return tree{file}, err
}

// A place is a name in an open directory.
type place struct {
	tree
	name string
}

// place opens the directory that a path is in. Whoever calls closes it.
func (t tree) place(name string) (place, error) {
	dir, err := t.sub(path.Dir(name))
	return place{dir, path.Base(name)}, err
}

// A kind is a type of entry.
type kind uint32

// The kinds that can be integrated are the first three.
const (
	missing   kind = 0
	regular   kind = unix.S_IFREG
	link      kind = unix.S_IFLNK
	directory kind = unix.S_IFDIR
)

// String implements fmt.Stringer.
func (k kind) String() string {
	switch k {
	case missing:
		return "nothing"
	case regular:
		return "file"
	case link:
		return "link"
	case directory:
		return "directory"
	}
	return "special file"
}

// An entry is what is at a place: enough to tell whether it is what somebody
// knows.
type entry struct {
	kind kind
	hash string // of content or target
	mode uint32 // permissions
	stat unix.Stat_t
}

// same says whether two entries are one thing to whoever reads them. The mode of
// a link says nothing, and that of a directory is compared where it is at issue.
func (e entry) same(other entry) bool {
	return e.kind == other.kind && e.hash == other.hash && (e.kind != regular || e.mode == other.mode)
}

// String says what it is, for people.
func (e entry) String() string {
	if e.hash == "" {
		return e.kind.String()
	}
	return fmt.Sprintf("%s %.12s", e.kind, e.hash)
}

// look says what is at a path. A path whose directories are not there leads to
// nothing; one that leads through a link is an error.
func (t tree) look(name string) (entry, error) {
	at, err := t.place(name)
	if isGone(err) {
		return entry{}, nil
	}
	if err != nil {
		return entry{}, err
	}
	e, err := at.look()
	return e, errors.Join(err, at.close())
}

// lookPast is look where a link in the way means that there is nothing: what was
// in the directory that it has replaced is gone.
func (t tree) lookPast(name string) (entry, error) {
	e, err := t.look(name)
	if errors.Is(err, unix.ELOOP) {
		return entry{}, nil
	}
	return e, err
}

func (p place) look() (e entry, err error) {
	if e.stat, err = p.lstat(); err != nil {
		if isGone(err) {
			return entry{}, nil
		}
		return e, err
	}
	e.kind, e.mode = kind(e.stat.Mode&unix.S_IFMT), e.stat.Mode&0o777
	switch e.kind {
	case regular:
		e.hash, err = p.hash()
	case link:
		var target string
		target, err = p.readlink()
		e.hash = hashOf(target)
	}
	if isGone(err) {
		return entry{}, nil
	}
	return e, err
}

func (p place) lstat() (s unix.Stat_t, err error) {
	if err = unix.Fstatat(p.fd(), p.name, &s, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		err = &os.PathError{Op: "stat", Path: p.name, Err: err}
	}
	return s, err
}

func (p place) hash() (string, error) {
	file, err := p.open(p.name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	return hex.EncodeToString(sum.Sum(nil)), errors.Join(err, file.Close())
}

func (p place) readlink() (string, error) {
	buffer := make([]byte, unix.PathMax+1)
	n, err := unix.Readlinkat(p.fd(), p.name, buffer)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: p.name, Err: err}
	}
	return string(buffer[:n]), nil
}

// isEmpty says whether a directory has no entries.
func (p place) isEmpty() (bool, error) {
	dir, err := p.sub(p.name)
	if err != nil {
		return false, err
	}
	_, err = dir.file.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, dir.close()
	}
	return false, errors.Join(err, dir.close())
}

// move renames an entry to a place where nothing is.
func (p place) move(to place) error {
	return rename(p, to, unix.RENAME_NOREPLACE)
}

// exchange puts each of two entries in the place of the other, as one.
func (p place) exchange(with place) error {
	return rename(p, with, unix.RENAME_EXCHANGE)
}

func rename(from, to place, flags uint) error {
	if err := unix.Renameat2(from.fd(), from.name, to.fd(), to.name, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: from.name, New: to.name, Err: err}
	}
	return nil
}

// isGone says that there is nothing at a path, and may be nothing above it.
func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) }

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// before is what a change replaces, and after what it leaves.
func before(c *sandbox.Change) entry {
	switch {
	case c.OldDir:
		return entry{kind: directory, mode: c.OldMode}
	case c.OldSHA256 == "":
		return entry{}
	case c.Op == sandbox.OpSymlink:
		return entry{kind: link, hash: c.OldSHA256}
	}
	// What is deleted may have been a link: its mode says nothing then.
	return entry{kind: regular, hash: c.OldSHA256, mode: c.OldMode}
}

func after(c *sandbox.Change) entry {
	switch c.Op {
	case sandbox.OpDelete:
		return entry{}
	case sandbox.OpMkdir:
		return entry{kind: directory, mode: c.Mode}
	case sandbox.OpSymlink:
		return entry{kind: link, hash: c.SHA256}
	}
	if c.OldDir {
		return entry{kind: directory, mode: c.Mode}
	}
	return entry{kind: regular, hash: c.SHA256, mode: c.Mode}
}

// isBefore says whether an entry is what a change replaces.
func (e entry) isBefore(c *sandbox.Change) bool {
	want := before(c)
	if c.Op == sandbox.OpDelete && e.kind == link && want.kind == regular {
		return e.hash == want.hash
	}
	return e.same(want) && (e.kind != directory || c.Op != sandbox.OpChmod || e.mode == want.mode)
}

// isAfter says whether an entry is what a change leaves.
func (e entry) isAfter(c *sandbox.Change) bool {
	want := after(c)
	return e.same(want) && (e.kind != directory || c.Op != sandbox.OpChmod || e.mode == want.mode)
}
