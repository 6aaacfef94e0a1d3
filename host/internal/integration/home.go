package integration

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// PrivateDir is where records are in a workspace that has no .git directory of
// its own. Walks of workspaces leave it out.
const PrivateDir = ".sop-integration"

// gitDir is where they are in one that has: git, and what works with it, leaves
// that alone, and `git clean` does not delete it.
const gitDir = ".git/sop"

// A home is the directory of the records of one workspace, locked.
type home struct {
	tree
	root tree
	name string // beneath the root
}

// findHome opens the home of a workspace; ok is false where there is none and
// make is not set.
func findHome(root tree, make bool) (h *home, ok bool, err error) {
	for _, name := range []string{gitDir, PrivateDir} {
		dir, err := root.sub(name)
		if err == nil {
			h := &home{tree: dir, root: root, name: name}
			return h, true, h.take()
		}
		if !isGone(err) {
			return nil, false, fmt.Errorf("%s: %w", name, err)
		}
	}
	if !make {
		return nil, false, nil
	}
	h, err = makeHome(root)
	return h, err == nil, err
}

func makeHome(root tree) (*home, error) {
	name := PrivateDir
	above, err := root.sub(".git")
	switch {
	case err == nil:
		name = gitDir
	case isGone(err):
		above, err = root.sub(".")
	}
	if err != nil {
		return nil, err
	}
	defer above.close() //nolint:errcheck // only read from
	last := name[strings.LastIndexByte(name, '/')+1:]
	if err := unix.Mkdirat(above.fd(), last, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	dir, err := above.sub(last)
	if err != nil {
		return nil, err
	}
	h := &home{tree: dir, root: root, name: name}
	if err := h.take(); err != nil {
		return nil, err
	}
	if name == PrivateDir {
		// git does not list a directory that ignores all that is in it.
		if err := h.hide(); err != nil {
			return nil, errors.Join(err, h.close())
		}
	}
	return h, above.sync()
}

func (h *home) hide() error {
	fd, err := unix.Openat(h.fd(), ".gitignore", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), ".gitignore")
	_, err = file.WriteString("*\n")
	return errors.Join(err, file.Close())
}

// take makes sure that the home is ours alone, and locks it: two hosts do not
// integrate in one workspace at the same time. On error it is closed.
func (h *home) take() error {
	var s unix.Stat_t
	err := unix.Fstat(h.fd(), &s)
	switch {
	case err != nil:
	case int(s.Uid) != os.Geteuid():
		err = refused("%s belongs to the user %d and not to the one that runs sop", h.name, s.Uid).
			WithRemedy("have somebody look what is in it, and remove it")
	case s.Mode&0o077 != 0:
		err = refused("%s is open to others (mode %04o)", h.name, s.Mode&0o777).WithRemedy("have somebody look what is in it, and remove it")
	default:
		err = unix.Flock(h.fd(), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			busy := sdk.Errorf(codes.Unavailable, ReasonBusy, "another process integrates in this workspace").WithRemedy("try again")
			busy.Retryable = true
			err = busy
		}
	}
	if err != nil {
		return errors.Join(err, h.close())
	}
	return nil
}

// ids lists the records, sorted.
func (h *home) ids() ([]string, error) {
	dir, err := h.sub(".")
	if err != nil {
		return nil, err
	}
	entries, err := dir.file.ReadDir(-1)
	if err = errors.Join(err, dir.close()); err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && isID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids)
	return ids, nil
}

const longestID = 64

// isID says whether a name can be that of a record.
func isID(name string) bool {
	return name != "" && len(name) <= longestID && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// record opens a record; ok is false where there is none.
func (h *home) record(id string) (r record, ok bool, err error) {
	dir, err := h.sub(id)
	if isGone(err) {
		return record{}, false, nil
	}
	return record{dir, id}, err == nil, err
}

// newRecord makes a record that is empty.
func (h *home) newRecord(id string) (record, error) {
	if err := unix.Mkdirat(h.fd(), id, 0o700); err != nil {
		return record{}, &os.PathError{Op: "mkdir", Path: id, Err: err}
	}
	crash("record made")
	r, _, err := h.record(id)
	return r, err
}

// discard removes a record: first the plan, so that what is left of it is
// nothing, and its directory last.
func (h *home) discard(r record) error {
	for _, ph := range phases {
		if err := r.remove(string(ph)); err != nil {
			return err
		}
	}
	crash("plan removed")
	if err := r.sync(); err != nil {
		return err
	}
	crash("removal of the plan synced")
	if err := r.empty(); err != nil {
		return err
	}
	if err := unix.Unlinkat(h.fd(), r.id, unix.AT_REMOVEDIR); err != nil {
		return &os.PathError{Op: "remove", Path: r.id, Err: err}
	}
	crash("record removed")
	return h.sync()
}

// empty removes what is staged. A directory in a slot is empty, or had become
// somebody's: then it stays, with an error.
func (r record) empty() error {
	dir, err := r.sub(".")
	if err != nil {
		return err
	}
	names, err := dir.file.Readdirnames(-1)
	if err = errors.Join(err, dir.close()); err != nil {
		return err
	}
	for _, name := range names {
		if err := r.remove(name); err != nil {
			return err
		}
		crash("slot removed")
	}
	return nil
}

// remove removes an entry of the record, if it is there.
func (r record) remove(name string) error {
	err := unix.Unlinkat(r.fd(), name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = unix.Unlinkat(r.fd(), name, unix.AT_REMOVEDIR)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}
