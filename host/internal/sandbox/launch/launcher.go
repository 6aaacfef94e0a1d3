package launch

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// initCaps are what pid 1 keeps, in its own user namespace, to build the root
// and to look after what runs in it.
var initCaps = []uint{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETPCAP, unix.CAP_NET_ADMIN, unix.CAP_SYS_CHROOT, unix.CAP_SYS_PTRACE, unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE,
}

const allNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// launcher starts pid 1 of a sandbox and returns when it is dead, and with it
// everything in its pid namespace. group are the ways into the run's cgroup, userns is that
// of the seed.
func launcher(c Control, group []int, userns int) error {
	plan := new(Plan)
	passed, err := c.Receive(plan)
	if err != nil || len(passed) != len(plan.Passed) {
		CloseAll(passed)
		return at("plan", orElse(err, "the descriptors are not those that it names"))
	}
	plan.passed, plan.userns = passed, userns
	cgroup, err := enterGroup(group)
	if err != nil {
		return at("cgroup", err)
	}
	if plan.Level == LevelLandlock || plan.Level == LevelNone {
		return launchPlain(c, plan, cgroup)
	}
	trees, err := makeTrees(plan)
	if err != nil {
		return err
	}
	pid, pidfd, err := startInit(c, plan, cgroup)
	CloseAll(trees)
	CloseAll(plan.passed)
	CloseAll(append(group, 0, 1, 2)) // the command's end is not this process's
	if err != nil {
		return at("namespaces", err)
	}
	started := Message{Kind: KindStarted, PID: pid, IDMapped: plan.IDMapped, Phases: map[string]int64{"cloned": now()}}
	if err := c.Send(started, pidfd); err != nil {
		return errors.Join(err, killAndReap(pid))
	}
	killWhenHostIsGone(c, pidfd)
	if err := waitFor(pid); err != nil {
		return err
	}
	// What the host waits for is closed before the rest of this process goes.
	return unix.CloseRange(0, ^uint(0), 0)
}

func orElse(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

// startInit makes pid 1, which waits at a gate until its ids are mapped. The gate
// stays open as long as this process lives.
func startInit(c Control, plan *Plan, cgroup int) (pid, pidfd int, err error) {
	var gate [2]int
	if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
		return 0, -1, err
	}
	pid, pidfd, err = fork(allNamespaces, cgroup)
	if pid == 0 {
		CloseAll(gate[1:])
		syscall.Exit(runInit(c, plan, gate[0]))
	}
	CloseAll(gate[:1])
	if err != nil {
		CloseAll(gate[1:])
		return 0, -1, err
	}
	err = mapIDs(pid, plan.UIDMap, plan.GIDMap, plan.Root)
	if err == nil {
		_, err = unix.Write(gate[1], []byte{1})
	}
	if err != nil {
		return 0, -1, errors.Join(err, killAndReap(pid))
	}
	return pid, pidfd, nil
}

// killWhenHostIsGone returns when pid 1 is dead, and ends it when nobody holds
// the host's end of the socket any longer, however the host came to its end.
func killWhenHostIsGone(c Control, pidfd int) {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(c.FD), Events: unix.POLLRDHUP}}
	for {
		_, err := unix.Poll(poll, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || poll[0].Revents != 0:
			return
		case poll[1].Revents != 0:
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) // it may be dead
			return
		}
	}
}

func killAndReap(pid int) error { return errors.Join(unix.Kill(pid, unix.SIGKILL), reap(pid)) }

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
	owned, err := ownedTrees(plan)
	if err != nil {
		return nil, err
	}
	trees = owned
	for i, tree := range plan.ownedTrees() {
		tree.fd = owned[i]
	}
	for i := range plan.Mounts {
		m := &plan.Mounts[i]
		m.fd, err = openTree(m.Path)
		if m.Optional && errors.Is(err, unix.ENOENT) {
			m.fd = 0
			continue
		}
		if err != nil {
			return trees, at("mount "+m.Path, err)
		}
		trees = append(trees, m.fd)
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
// others as they are.
func idmap(trees []int, plan *Plan) error {
	userns := plan.userns
	if userns <= 0 {
		var err error
		if userns, err = idNamespace(); err != nil {
			return err
		}
		defer unix.Close(userns) //nolint:errcheck // nothing was written to it
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns)}
	for _, tree := range trees {
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return err
		}
	}
	return nil
}

// idNamespace returns a user namespace in which root is the sandbox's id: a
// mount takes its map from one. It is made by a process that does nothing else,
// and stays when that is gone.
func idNamespace() (int, error) {
	pid, pidfd, err := fork(unix.CLONE_NEWUSER, 0)
	if err != nil {
		return -1, err
	}
	if pid == 0 {
		_ = prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)) // it is killed all the same
		for {
			_, _ = unix.Poll(nil, -1) // for ever
		}
	}
	CloseAll([]int{pidfd})
	ids := []IDRange{{0, RootID, 1}, {1, 1, ordinaryIDs}}
	userns := -1
	if err = mapIDs(pid, ids, ids, true); err == nil {
		userns, err = unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	return userns, errors.Join(err, killAndReap(pid))
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

// RootID is what a sandbox of root runs as: an id that owns nothing and that no
// account has, so that limits per user hold, which they do not for root.
const RootID = 1_900_000_000

// RootIDMap maps what a sandbox of root may see: ordinary ids, and its own.
func RootIDMap() []IDRange {
	return []IDRange{{1, 1, ordinaryIDs}, {RootID, RootID, 1}}
}
