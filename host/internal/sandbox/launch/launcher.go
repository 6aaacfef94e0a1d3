package launch

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// initCaps are what pid 1 keeps, in its own user namespace, to build the root
// and to look after what runs in it.
var initCaps = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETPCAP, unix.CAP_NET_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE,
}

const allNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// lightly keeps the stages' runtime small.
var lightly = []string{"GOMAXPROCS=2", "GOGC=off"}

func runLauncher(c Control) int {
	if err := launcher(c); err != nil {
		_ = c.Send(refusal(err)) // the host may be gone, and then nobody asks
		return 1
	}
	return 0
}

// launcher starts pid 1 of a sandbox and returns when it is dead, and with it
// everything in its pid namespace.
func launcher(c Control) error {
	// What the host let slip stays here.
	if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return at("descriptors", err)
	}
	plan := new(Plan)
	passed, err := c.Receive(plan)
	if err != nil || len(passed) != len(plan.Passed) {
		CloseAll(passed)
		return at("plan", orElse(err, "the descriptors are not those that it names"))
	}
	plan.passed = passed
	if plan.Level == LevelLandlock || plan.Level == LevelNone {
		return launchPlain(c, plan)
	}
	trees, err := makeTrees(plan)
	if err != nil {
		return err
	}
	pid, pidfd, err := startInit(c, plan, trees)
	CloseAll(trees)
	CloseAll(plan.passed)
	if err != nil {
		return at("namespaces", err)
	}
	defer unix.Close(pidfd) //nolint:errcheck // nothing was written to it
	started := Message{Kind: KindStarted, PID: pid, IDMapped: plan.IDMapped, Phases: map[string]int64{"cloned": now()}}
	if err := c.Send(started, pidfd); err != nil {
		return errors.Join(err, killAndWait(pid, pidfd))
	}
	go killWhenHostIsGone(c, pidfd)
	return waitFor(pid)
}

func orElse(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

func startInit(c Control, plan *Plan, trees []int) (pid, pidfd int, err error) {
	plan.PassedFD = treesFD + len(trees)
	sealed, err := SealedPlan(plan)
	if err != nil {
		return 0, -1, err
	}
	defer sealed.Close() //nolint:errcheck // in memory
	files := []uintptr{0, 1, 2, uintptr(c.FD), sealed.Fd()}
	for _, fd := range slices.Concat(trees, plan.passed) {
		files = append(files, uintptr(fd))
	}
	pidfd = -1
	pid, err = syscall.ForkExec(selfPath, []string{"sop-sandbox", "init"}, &syscall.ProcAttr{
		Env: lightly, Files: files,
		Sys: &syscall.SysProcAttr{
			Cloneflags:  allNamespaces,
			UidMappings: mappings(plan.UIDMap), GidMappings: mappings(plan.GIDMap),
			GidMappingsEnableSetgroups: plan.Root,
			Credential:                 &syscall.Credential{Uid: uint32(plan.UID), Gid: uint32(plan.GID), NoSetGroups: !plan.Root},
			AmbientCaps:                initCaps,
			Pdeathsig:                  syscall.SIGKILL, // follows this thread, which is locked and lasts
			PidFD:                      &pidfd,
		},
	})
	runtime.KeepAlive(sealed)
	if err == nil && pidfd < 0 {
		err = fmt.Errorf("no pidfd for pid 1: %w", errors.Join(unix.ENOSYS, killAndWait(pid, -1)))
	}
	return pid, pidfd, err
}

func mappings(ranges []IDRange) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(ranges))
	for i, r := range ranges {
		out[i] = syscall.SysProcIDMap{ContainerID: r.Inside, HostID: r.Outside, Size: r.Count}
	}
	return out
}

// killWhenHostIsGone ends the sandbox when nobody holds the host's end of the
// socket any longer, however the host came to its end.
func killWhenHostIsGone(c Control, pidfd int) {
	waitForHangUp(c.FD)
	_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) // it may be dead
}

func waitForHangUp(fd int) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	for {
		n, err := unix.Poll(poll, -1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func killAndWait(pid, pidfd int) error {
	var err error
	if pidfd >= 0 {
		err = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	} else {
		err = unix.Kill(pid, unix.SIGKILL)
	}
	return errors.Join(err, waitFor(pid))
}

// waitFor returns nil when the child ended by itself and well.
func waitFor(pid int) error {
	var status unix.WaitStatus
	err := retry(func() error {
		_, err := unix.Wait4(pid, &status, 0, nil)
		return err
	})
	switch {
	case err != nil:
		return at("wait", err)
	case status.Signaled():
		return at("init", fmt.Errorf("pid 1 was ended by %v", status.Signal()))
	case status.ExitStatus() == initRefused:
		return nil // it has said why itself
	case status.ExitStatus() != 0:
		return at("init", fmt.Errorf("pid 1 ended with code %d", status.ExitStatus()))
	}
	return nil
}

// makeTrees detaches, while it still may, what pid 1 of another user cannot
// reach: root's sandbox does not run as root. Where the file system of the
// workspace cannot be idmapped, the sandbox has root's own id instead, without
// any of its powers.
func makeTrees(plan *Plan) (trees []int, err error) {
	if !plan.Root {
		return nil, nil
	}
	defer func() {
		if err != nil {
			CloseAll(trees)
			trees = nil
		}
	}()
	add := func(t *Tree, fd int) {
		trees = append(trees, fd)
		t.FD = treesFD + len(trees) - 1
	}
	owned, err := ownedTrees(plan)
	if err != nil {
		return nil, err
	}
	for i, tree := range plan.ownedTrees() {
		add(tree, owned[i])
	}
	for i := range plan.Mounts {
		m := &plan.Mounts[i]
		fd, err := openTree(m.Path)
		if m.Optional && errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return trees, at("mount "+m.Path, err)
		}
		add(&m.Tree, fd)
	}
	return trees, nil
}

// openTree makes a detached copy of what is mounted at and beneath path.
func openTree(path string) (int, error) {
	return unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
}

// ownedTrees are the trees of the host that the command may change a view of.
func (p *Plan) ownedTrees() []*Tree {
	trees := []*Tree{&p.Workspace}
	for i := range p.Caches {
		if p.Caches[i].Path != "" {
			trees = append(trees, &p.Caches[i].Tree)
		}
	}
	return trees
}

// ownedTrees detaches them, such that files of root seem to belong to the
// sandbox. Where one of them cannot be shown so, none is.
func ownedTrees(plan *Plan) (fds []int, err error) {
	if fds, err = cloneOwned(plan); err != nil || !plan.IDMapped {
		return fds, err
	}
	if idmap(fds, plan) == nil {
		return fds, nil
	}
	CloseAll(fds)
	plan.IDMapped = false
	ownID(plan.UIDMap)
	ownID(plan.GIDMap)
	return cloneOwned(plan)
}

func cloneOwned(plan *Plan) (fds []int, err error) {
	for i, tree := range plan.ownedTrees() {
		fd, err := unix.OpenTree(unix.AT_FDCWD, tree.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			CloseAll(fds)
			return nil, at(ownedStage(i, tree), err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func ownedStage(i int, tree *Tree) string {
	if i == 0 {
		return "workspace"
	}
	return "cache " + tree.Path
}

// ownID makes the last range, the sandbox's own, stand for root outside.
func ownID(ranges []IDRange) { ranges[len(ranges)-1].Outside = 0 }

// idmap shows the files of root on mounts as those of the sandbox, and all
// others as they are. A mount takes its map from a user namespace, and a user
// namespace exists by a process: one that is stopped before its first
// instruction and never gets to it.
func idmap(trees []int, plan *Plan) error {
	pid, err := syscall.ForkExec(selfPath, []string{"sop-sandbox"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: plan.UID, Size: 1}, {ContainerID: 1, HostID: 1, Size: ordinaryIDs}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: plan.GID, Size: 1}, {ContainerID: 1, HostID: 1, Size: ordinaryIDs}},
			Ptrace:      true,
			Pdeathsig:   syscall.SIGKILL,
		},
	})
	if err != nil {
		return err
	}
	userns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(userns) //nolint:errcheck // nothing was written to it
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns)}
		for _, tree := range trees {
			err = errors.Join(err, unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr))
		}
	}
	return errors.Join(err, unix.Kill(pid, unix.SIGKILL), reap(pid))
}

// reap waits until a child that was killed is gone.
func reap(pid int) error {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case status.Exited() || status.Signaled():
			return nil
		}
	}
}

// ordinaryIDs are mapped to themselves in root's sandboxes, so that files of
// others can be read and copied up.
const ordinaryIDs = 65535

// RootIDMap maps what a sandbox of root may see: ordinary ids, and its own.
func RootIDMap(id int) []IDRange {
	return []IDRange{{1, 1, ordinaryIDs}, {id, id, 1}}
}
