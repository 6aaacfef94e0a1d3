package launch

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	quiet  = unix.MS_NOSUID | unix.MS_NODEV
	base   = "/tmp" // where the first tmpfs is mounted, until it is the root
	newDir = "/new"

	lowerDir = "/lower" // the workspace as it is, until the second pivot
)

// buildRoot replaces the whole view of the file system by one that is built
// from nothing, and returns a descriptor of the directory where changes to the
// workspace end up.
//
// It pivots twice: first onto an empty tmpfs, and the host's tree is gone before
// anything is put in place; then into the tree built there, which leaves the
// scaffolding (lower, upper and work directories) behind without a name.
func buildRoot(plan *Plan) (upper int, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, at("private mounts", err)
	}
	if err := openTrees(plan); err != nil {
		return -1, err
	}
	proc, err := openProc(plan)
	if err != nil {
		return -1, at("proc", err)
	}
	if err := pivotToEmpty(); err != nil {
		return -1, at("first pivot", err)
	}
	for _, step := range []struct {
		stage string
		take  func(*Plan) error
	}{
		{"scratch", makeScratch},
		{"mounts", attachMounts},
		{"files", makeFiles},
		{"overlay", mountWorkspace},
		{"patch", makePatch},
		{"caches", mountCaches},
		{"protected", protect},
		{"pids", func(plan *Plan) error { return boundPids(plan, proc) }},
		{"masks", func(*Plan) error { return maskProc(proc) }},
		{"read-only root", func(*Plan) error { return closeRoot() }},
	} {
		if err := step.take(plan); err != nil {
			return -1, at(step.stage, err)
		}
	}
	upper, err = unix.Open("/scratch/upper", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, at("upper directory", err)
	}
	if plan.Serves {
		if plan.socketsDir, err = unix.Open("/scratch/sockets", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return -1, at("sockets", errors.Join(err, unix.Close(upper)))
		}
	}
	if err := pivotInto(newDir); err != nil {
		_ = unix.Close(upper)
		return -1, at("second pivot", err)
	}
	return upper, nil
}

// openTrees detaches by path what the launcher has not detached already.
func openTrees(plan *Plan) (err error) {
	for i, tree := range plan.ownedTrees() {
		if tree.fd != 0 {
			continue
		}
		if tree.fd, err = openTree(tree.Path); err != nil {
			return at(ownedStage(i, tree), err)
		}
	}
	return openMounts(plan)
}

func openMounts(plan *Plan) (err error) {
	for i := range plan.Mounts {
		m := &plan.Mounts[i]
		if m.fd != 0 {
			continue
		}
		m.fd, err = openTree(m.Path)
		switch {
		case err == nil:
		case m.Optional && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES)):
			m.fd = 0
		default:
			return at("mount "+m.Path, err)
		}
	}
	return nil
}

func pivotToEmpty() error {
	if err := unix.Mount("tmpfs", base, "tmpfs", quiet, "mode=0755,size=4m,nr_inodes=4096"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	for _, dir := range []string{newDir, "/lower", "/scratch"} {
		if err := makeDir(base + dir); err != nil {
			return err
		}
	}
	if err := pivotInto(base); err != nil {
		return err
	}
	return unix.Mount(newDir, newDir, "", unix.MS_BIND, "")
}

// pivotInto makes the mount at dir the root of this and every thread, and drops
// what was the root.
func pivotInto(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	return unix.Chdir("/")
}

// makeScratch mounts all that can be written to: one file system, so that its
// size and number of inodes bound everything together.
func makeScratch(plan *Plan) error {
	options := fmt.Sprintf("mode=0755,size=%d,nr_inodes=%d", plan.Limits.DiskBytes, plan.Limits.Inodes)
	if err := unix.Mount("tmpfs", "/scratch", "tmpfs", quiet, options); err != nil {
		return err
	}
	for _, dir := range []struct {
		name, target string
		mode         os.FileMode
	}{
		{"upper", "", 0o755},
		{"work", "", 0o700},
		{"tmp", TempDir, 0o1777},
		{"home", HomeDir, 0o700},
		{"shm", "/dev/shm", 0o1777},
		{"sockets", plan.servesIn(), 0o700},
	} {
		source := path.Join("/scratch", dir.name)
		if err := unix.Mkdir(source, 0o700); err != nil {
			return err
		}
		if err := unix.Chmod(source, uint32(dir.mode)); err != nil {
			return err
		}
		if dir.target == "" {
			continue
		}
		if err := makeDir(newDir + dir.target); err != nil {
			return err
		}
		if err := unix.Mount(source, newDir+dir.target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", dir.target, err)
		}
	}
	// Opaque directories are user xattrs, which tmpfs has from Linux 6.6 on.
	if err := unix.Setxattr("/scratch/work", "user.sop.probe", []byte("y"), 0); err != nil {
		return fmt.Errorf("tmpfs without user xattrs: %w", err)
	}
	return nil
}

// servesIn is where a service listens in the new root; "" for no service.
func (p *Plan) servesIn() string {
	if p.Serves {
		return SocketsDir
	}
	return ""
}

func attachMounts(plan *Plan) error {
	for _, m := range plan.Mounts {
		if m.fd == 0 {
			continue
		}
		if err := attach(m.fd, newDir+m.Target, m.Device); err != nil {
			return fmt.Errorf("%s: %w", m.Path, err)
		}
	}
	return nil
}

// attach mounts a detached tree read-only at a target that it makes, and closes
// the descriptor.
func attach(tree int, target string, device bool) error {
	defer unix.Close(tree) //nolint:errcheck // a mount holds it from here on
	if err := makeTarget(tree, target); err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if device {
		attr.Attr_set = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("restrict: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

// makeTarget makes a directory for a directory and a file for anything else.
func makeTarget(tree int, target string) error {
	var stat unix.Stat_t
	if err := unix.Fstat(tree, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return makeDir(target)
	}
	return makeFile(target, "")
}

// makeDir makes directories of the new root, which its user may look into.
func makeDir(name string) error {
	return os.MkdirAll(name, 0o755) //nolint:gosec // it is read-only and the sandbox's own
}

func makeFile(target, content string) error {
	if err := makeDir(path.Dir(target)); err != nil {
		return err
	}
	return writeNew(target, content)
}

func makeFiles(plan *Plan) error {
	for _, f := range plan.Files {
		if f.Link {
			if err := os.Symlink(f.Content, newDir+f.Target); err != nil {
				return err
			}
			continue
		}
		if err := makeFile(newDir+f.Target, f.Content); err != nil {
			return err
		}
	}
	return nil
}

// mountWorkspace shows the workspace as it is with what the command changes.
func mountWorkspace(plan *Plan) error {
	return mountOverlay(plan.Workspace.fd, lowerDir, "/scratch", newDir+WorkspaceDir)
}

// mountCaches shows each cache likewise; one that the host has not got is an
// empty directory.
func mountCaches(plan *Plan) error {
	for i, c := range plan.Caches {
		scratch := fmt.Sprint("/scratch/cache", i)
		for _, dir := range []string{"/upper", "/work"} {
			if err := makeDir(scratch + dir); err != nil {
				return err
			}
		}
		if c.fd != 0 {
			lower := fmt.Sprint("/lower", i)
			if err := makeDir(lower); err != nil {
				return err
			}
			if err := mountOverlay(c.fd, lower, scratch, newDir+c.Target); err != nil {
				return fmt.Errorf("%s: %w", c.Path, err)
			}
			continue
		}
		if err := makeDir(newDir + c.Target); err != nil {
			return err
		}
		if err := unix.Mount(scratch+"/upper", newDir+c.Target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", c.Target, err)
		}
	}
	return nil
}

// mountOverlay mounts at target the tree open as fd, which it closes, with the
// upper and work directories in scratch.
func mountOverlay(fd int, lower, scratch, target string) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if err := attach(fd, lower, false); err != nil {
		return fmt.Errorf("lower: %w", err)
	}
	if err := unix.Chmod(scratch+"/upper", stat.Mode&0o777); err != nil {
		return err
	}
	if err := makeDir(target); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,userxattr", lower, scratch, scratch)
	return unix.Mount("overlay", target, "overlay", quiet, options)
}

// maskedProc are the parts of /proc that tell of the host or can be written to.
var maskedProc = []string{
	"acpi", "bus", "driver", "fs", "irq", "scsi", "dynamic_debug", "sysvipc",
	"kcore", "keys", "key-users", "kmsg", "kallsyms", "kpagecount", "kpageflags", "kpagecgroup", "latency_stats",
	"modules", "sched_debug", "slabinfo", "sysrq-trigger", "timer_list", "vmallocinfo", "iomem", "ioports", "interrupts", "mtrr",
}

// nobodysGroup is a group that no sandbox is in and that its maps have.
const nobodysGroup = 65533

// openProc makes the /proc of the new pid namespace, where processes see only
// what is theirs. The kernel grants one only to who can see another whole, so
// it must be made while the host's is still there. At ns-noproc there is none,
// and the answer is -1.
func openProc(plan *Plan) (int, error) {
	if plan.Level != LevelStrict {
		return -1, nil
	}
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs) //nolint:errcheck // nothing was written to it
	if err := unix.FsconfigSetString(fs, "hidepid", "invisible"); err != nil {
		return -1, fmt.Errorf("hidepid: %w", err)
	}
	if plan.Root { // or root's own group would see everything
		if err := unix.FsconfigSetString(fs, "gid", strconv.Itoa(nobodysGroup)); err != nil {
			return -1, fmt.Errorf("gid: %w", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// leastPidMax is what the kernel asks for.
const leastPidMax = 301

// boundPids bounds the processes of a sandbox that has root's own id, for whom
// RLIMIT_NPROC does not hold, by the ids that its pid namespace has to give
// (Linux 6.14). Where that cannot be done and no cgroup does it, a fork bomb
// would be free.
func boundPids(plan *Plan, proc int) error {
	if !plan.Root || plan.IDMapped || plan.MemoryCounted {
		return nil
	}
	if proc < 0 {
		return fmt.Errorf("without /proc nothing bounds the processes of root's own id: %w", unix.ENOTSUP)
	}
	fd, err := unix.Openat(proc, "sys/kernel/pid_max", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pid_max of the namespace: %w", err)
	}
	defer unix.Close(fd) //nolint:errcheck // the write has said all
	if _, err := unix.Write(fd, strconv.AppendUint(nil, max(plan.Limits.Pids, leastPidMax), 10)); err != nil {
		return fmt.Errorf("pid_max of the namespace: %w", err)
	}
	return nil
}

// maskProc mounts /proc, or an empty directory where there is none, and closes
// what tells of the host.
func maskProc(mount int) error {
	proc := newDir + "/proc"
	if err := makeDir(proc); err != nil || mount < 0 {
		return err
	}
	defer unix.Close(mount) //nolint:errcheck // it is in place from here on
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, proc, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	for _, name := range maskedProc {
		if err := mask(path.Join(proc, name)); err != nil {
			return fmt.Errorf("mask %s: %w", name, err)
		}
	}
	if err := readOnly(proc + "/sys"); err != nil {
		return fmt.Errorf("sys: %w", err)
	}
	return nil
}

// closeRoot makes the root itself read-only; what is mounted in it is as it is.
func closeRoot() error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}
	return unix.MountSetattr(unix.AT_FDCWD, newDir, 0, &attr)
}

// readOnly covers a directory with itself, read-only.
func readOnly(dir string) error {
	tree, err := openTree(dir)
	if err != nil {
		return err
	}
	return attach(tree, dir, false)
}

// mask covers a directory with an empty one, and a file with /dev/null.
func mask(name string) error {
	var stat unix.Stat_t
	err := unix.Lstat(name, &stat)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		return unix.Mount("tmpfs", name, "tmpfs", quiet|unix.MS_NOEXEC|unix.MS_RDONLY, "mode=0555,size=4k,nr_inodes=2")
	case stat.Mode&unix.S_IFMT == unix.S_IFLNK:
		return nil
	}
	return unix.Mount(newDir+"/dev/null", name, "", unix.MS_BIND, "")
}
