package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PluginArgs and PluginEnv start the stage that becomes a plugin.
var (
	PluginArgs = []string{"sop-sandbox", "plugin"}
	PluginEnv  = []string{"GOMAXPROCS=2", "GOGC=off"}
)

// PluginFiles are the descriptors from 3 on of that stage: what SealedPlan
// returned, the program, and a pipe on which it sends a Message, as JSON, when
// everything is in force, and one when a step could not be taken. The pipe
// closes when the stage has become the plugin, or is dead.
func PluginFiles(null, plan, program, report *os.File) []*os.File {
	return []*os.File{null, plan, program, report}
}

// PluginCaps are what the stage needs, in a user namespace of its own, to build
// the view of a namespaced level.
var PluginCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}

// StageCaps are PluginCaps and what the plan needs beside them.
func (p *Plan) StageCaps() []uintptr {
	if p.Network == NetworkLoopback {
		return append(slices.Clone(PluginCaps), unix.CAP_NET_ADMIN)
	}
	return PluginCaps
}

// Namespaced says whether the plan's level gives a root and namespaces of its own.
func (p *Plan) Namespaced() bool { return p.namespaced() }

// runPlugin returns only when the plugin could not be started.
func runPlugin() int {
	report := os.NewFile(reportFD, "report")
	if err := becomePlugin(report); err != nil {
		_ = json.NewEncoder(report).Encode(refusal(err)) // the host may be gone, and then nobody asks
	}
	return 125
}

// becomePlugin gives up, in this thread, what the plan wants given up, and
// executes the program that is open as programFD, in the directory where it is.
// The order is that of become, and for the same reasons.
func becomePlugin(report *os.File) error {
	if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return at("descriptors", err)
	}
	plan, err := readPlan()
	if err != nil {
		return at("plan", err)
	}
	plan.program, plan.keepsUser = programFD, true
	dir, err := unix.Getwd()
	if err != nil {
		return at("working directory", err)
	}
	plan.Writable = append(plan.Writable, dir)
	abi := landlockABI()
	if !plan.namespaced() && abi < leastPlainABI {
		return at("landlock", fmt.Errorf("version %d; %d is needed to keep signals and sockets in: %w", abi, leastPlainABI, unix.ENOSYS))
	}
	if !plan.namespaced() && plan.Network == NetworkLoopback {
		return at("loopback", fmt.Errorf("level %s has no network of its own: %w", plan.Level, unix.ENOTSUP))
	}
	if plan.namespaced() {
		if err := buildView(plan, dir); err != nil {
			return err
		}
	}
	if err := setLimits(Limits{}); err != nil {
		return at("limits", err)
	}
	if plan.readAll, err = keepReading(); err != nil {
		return at("capabilities", err)
	}
	if err := dropPowers(plan); err != nil {
		return at("capabilities", err)
	}
	if err := restrictFiles(plan); err != nil {
		return at("landlock", err)
	}
	argv, envv, name, err := execArguments(plan.Path[0], plan)
	if err != nil {
		return at("command", err)
	}
	if err := installSilently(compile(pluginPolicy(plan))); err != nil {
		return at("seccomp", err)
	}
	if err := json.NewEncoder(report).Encode(Message{Kind: KindReady, LandlockABI: abi}); err != nil {
		return at("report", err)
	}
	if plan.Script {
		return at(StageExec, execve(name, argv, envv))
	}
	return at(StageExec, execveat(plan.program, argv, envv))
}

// StageExec is the last step: a refusal there is the program's fault.
const StageExec = "execve"

// execveat executes what is open as fd.
func execveat(fd int, argv, envv []*byte) error {
	var empty byte
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0) //nolint:gosec // as in syscall
	return errno
}

const viewNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// buildView replaces this thread's view of the file system by one that has only
// what the plan names, each at its own place, and its view of network and other
// names by empty ones. It returns in dir. The pid namespace is the host's gift.
func buildView(plan *Plan, dir string) error {
	if os.Getpid() != 1 { // the new /proc would show the host's processes
		return at("pid namespace", unix.EPERM)
	}
	if err := unshareView(plan); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return at("private mounts", err)
	}
	if err := openMounts(plan); err != nil {
		return err
	}
	writable := make([]int, len(plan.Writable))
	for i, name := range plan.Writable {
		var err error
		if writable[i], err = openTree(name); err != nil {
			return at("mount "+name, err)
		}
	}
	proc, err := openProc(plan)
	if err != nil {
		return at("proc", err)
	}
	for _, step := range []struct {
		stage string
		take  func() error
	}{
		{"first pivot", pivotToEmpty},
		{"mounts", func() error { return attachMounts(plan) }},
		{"writable", func() error { return attachWritable(plan.Writable, writable) }},
		{"files", func() error { return makeFiles(plan) }},
		{"masks", func() error { return maskProc(proc) }},
		{"read-only root", closeRoot},
		{"second pivot", func() error { return pivotInto(newDir) }},
		{"working directory", func() error { return unix.Chdir(dir) }},
	} {
		if err := step.take(); err != nil {
			return at(step.stage, err)
		}
	}
	return nil
}

// unshareView leaves the host's namespaces; the network's stays where the plan
// shares it.
func unshareView(plan *Plan) error {
	flags := viewNamespaces
	if plan.Network != NetworkFull {
		flags |= unix.CLONE_NEWNET
	}
	if err := unix.Unshare(flags); err != nil {
		return at("namespaces", err)
	}
	if plan.Network == NetworkLoopback {
		return at("loopback", loopbackUp())
	}
	return nil
}

// attachWritable mounts detached trees at their names in the new root.
func attachWritable(names []string, trees []int) error {
	for i, name := range names {
		if err := makeDir(newDir + name); err != nil {
			return err
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
		err := errors.Join(
			unix.MountSetattr(trees[i], "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr),
			unix.MoveMount(trees[i], "", unix.AT_FDCWD, newDir+name, unix.MOVE_MOUNT_F_EMPTY_PATH),
			unix.Close(trees[i]),
		)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

const readCapability = 1 << unix.CAP_DAC_READ_SEARCH

// keepReading says whether this is root, who reads files of everybody: its plugin
// is to read them too, where the plan lets it. What is to be kept is made
// inheritable, which takes a bounding set that still has it.
func keepReading() (bool, error) {
	if os.Geteuid() != 0 {
		return false, nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var has [2]unix.CapUserData
	if err := unix.Capget(&header, &has[0]); err != nil || has[0].Permitted&readCapability == 0 {
		return false, err
	}
	has[0].Inheritable = readCapability
	return true, unix.Capset(&header, &has[0])
}

// keptPowers makes what is to be kept survive the execve, and returns the sets
// to be left with.
func (p *Plan) keptPowers() (kept [2]unix.CapUserData, err error) {
	if !p.readAll {
		return kept, nil
	}
	kept[0] = unix.CapUserData{Effective: readCapability, Permitted: readCapability, Inheritable: readCapability}
	return kept, unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_DAC_READ_SEARCH, 0, 0)
}

// pluginPolicy is for a program that serves on a socket in its own directory
// and has its host's user: what landlock does not see must not be asked for.
func pluginPolicy(plan *Plan) policy {
	closed := slices.Concat(ownershipCalls, ownershipHere, []uintptr{unix.SYS_SETSID, unix.SYS_SETPGID})
	p := policyFor(&Plan{Level: LevelStrict})
	p.allow = slices.DeleteFunc(p.allow, func(call uintptr) bool {
		return slices.Contains(closed, call) || !plan.namespaced() && slices.Contains(sharedNames, call)
	})
	p.checked = slices.DeleteFunc(p.checked, func(c check) bool { return slices.Contains(closed, c.call) })
	for i := range p.checked {
		if p.checked[i].call == unix.SYS_SOCKET && plan.Network == NetworkNone {
			p.checked[i].in = []uint32{unix.AF_UNIX}
		}
	}
	return p
}

// ownershipCalls change whose a file is and who may do what with it, which
// landlock lets a user do with all that are his.
var ownershipCalls = []uintptr{
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR,
}

// sharedNames are calls by whose names processes of the whole IPC namespace
// meet.
var sharedNames = []uintptr{unix.SYS_SEMGET, unix.SYS_MSGGET, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK}

// Err is what a refusal says, as an error.
func (m *Message) Err() error {
	if m.Errno != 0 {
		return fmt.Errorf("%s: %s: %w", m.Stage, m.Detail, m.Errno)
	}
	return fmt.Errorf("%s: %s", m.Stage, m.Detail)
}
