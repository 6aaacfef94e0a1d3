package launch

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// PassedProtected is a file of names, each ended by a NUL, of files of the
// workspace that the view shows as the workspace has them, read-only.
const PassedProtected = "protected"

// protect covers what was passed with the workspace's own. It comes after the
// patch, which therefore cannot have a say in them; a file that the patch has
// removed is refused.
func protect(plan *Plan) (err error) {
	fd := plan.passedFD(PassedProtected)
	if fd == 0 {
		return nil
	}
	names, err := io.ReadAll(io.NewSectionReader(fileReader(fd), 0, 1<<62))
	if err != nil {
		return err
	}
	lower, err := openDir(lowerDir)
	if err != nil {
		return err
	}
	defer unix.Close(lower) //nolint:errcheck // nothing was written to it
	view, err := openDir(newDir + WorkspaceDir)
	if err != nil {
		return err
	}
	defer unix.Close(view) //nolint:errcheck // likewise
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if err := protectOne(lower, view, name); err != nil {
			return fmt.Errorf("%.200q: %w", name, err)
		}
	}
	return nil
}

func openDir(name string) (int, error) {
	return unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func protectOne(lower, view int, name string) error {
	from, err := openName(lower, name)
	if err != nil {
		return err
	}
	defer unix.Close(from) //nolint:errcheck // nothing was written to it
	at, err := openName(view, name)
	if err != nil {
		return err
	}
	defer unix.Close(at) //nolint:errcheck // likewise
	tree, err := unix.OpenTree(from, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree) //nolint:errcheck // a mount holds it from here on
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// openName opens a regular file of a tree by a path with no link in it.
func openName(dir int, name string) (int, error) {
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return -1, err
	}
	var stat unix.Stat_t
	err = unix.Fstat(fd, &stat)
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}
