package launch

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// runExec returns only when the command could not be started.
func runExec(plan *Plan, parent int, words Control) int {
	if err := become(plan, parent, words); err != nil {
		_ = words.Send(refusal(err)) // pid 1 may be gone, and then nobody asks
	}
	return 125
}

// become gives up whatever can be given up, and executes the command. This
// process has one thread, so what the thread gives up is all that there is. The
// order matters: securebits and the bounding set take a capability, landlock
// and seccomp take no_new_privs, and after seccomp little else can be done.
func become(plan *Plan, parent int, words Control) error {
	if err := dieWith(parent); err != nil {
		return at("exec stage", err)
	}
	blockSignals(noSignals)
	plan.program = plan.passedFD(PassedProgram)
	unix.Umask(0o022)
	if err := unix.Chdir(plan.Dir); err != nil {
		return at("working directory", err)
	}
	program, err := lookPath(plan)
	if err != nil {
		return at("command", err)
	}
	if err := setLimits(plan.Limits); err != nil {
		return at("limits", err)
	}
	if err := dropPowers(plan); err != nil {
		return at("capabilities", err)
	}
	if plan.Level != LevelNone {
		if err := restrictFiles(plan); err != nil {
			return at("landlock", err)
		}
	}
	argv, envv, name, err := execArguments(program, plan)
	if err != nil {
		return at("command", err)
	}
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return at("descriptors", err)
	}
	if plan.Level != LevelNone {
		if err := filter(plan, words); err != nil {
			return at("seccomp", err)
		}
	}
	if plan.program > 0 && !plan.Script {
		return at(StageExec, execveat(plan.program, argv, envv))
	}
	return at(StageExec, execve(name, argv, envv))
}

// dieWith begins a session of its own, which does not outlive the parent.
func dieWith(parent int) error {
	if _, err := unix.Setsid(); err != nil {
		return err
	}
	if err := prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)); err != nil {
		return err
	}
	if os.Getppid() != parent {
		return errors.New("pid 1 is gone")
	}
	return nil
}

// filter puts the filter on and hands its listener to whoever answers.
func filter(plan *Plan, words Control) error {
	listener, err := installFilter(compile(policyFor(plan)))
	if err != nil || listener < 0 {
		return err
	}
	return words.Send(Message{Kind: KindReady}, listener)
}

// lookPath finds the program as a shell would, with the sandbox's own PATH.
func lookPath(plan *Plan) (string, error) {
	name := plan.Argv[0]
	if plan.program > 0 {
		return name, nil
	}
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	for _, dir := range plan.Path {
		if found := path.Join(dir, name); executable(found) == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%s: %w in %s of the sandbox", name, syscall.ENOENT, strings.Join(plan.Path, ":"))
}

func executable(name string) error {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s: %w", name, syscall.EISDIR)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s: %w", name, syscall.EACCES)
	}
	return nil
}

func setLimits(l Limits) error {
	for _, limit := range []struct {
		resource int
		value    uint64
	}{
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_NICE, 0},
		{unix.RLIMIT_RTPRIO, 0},
		{unix.RLIMIT_MEMLOCK, 8 << 20},
		{unix.RLIMIT_MSGQUEUE, 819200},
		{unix.RLIMIT_SIGPENDING, 4096},
		{unix.RLIMIT_CPU, l.CPUSeconds},
		{unix.RLIMIT_DATA, l.MemoryBytes},
		{unix.RLIMIT_FSIZE, l.DiskBytes},
		{unix.RLIMIT_NPROC, l.Pids},
		{unix.RLIMIT_NOFILE, l.OpenFiles},
	} {
		if limit.value == 0 && !alwaysZero(limit.resource) {
			continue
		}
		if err := lower(limit.resource, limit.value); err != nil {
			return fmt.Errorf("rlimit %d: %w", limit.resource, err)
		}
	}
	return nil
}

func alwaysZero(resource int) bool {
	return resource == unix.RLIMIT_CORE || resource == unix.RLIMIT_NICE || resource == unix.RLIMIT_RTPRIO
}

// lower sets a limit for good, and never raises what is lower already. CPU time
// has a second between the signal that can be caught and the one that cannot.
func lower(resource int, value uint64) error {
	var old unix.Rlimit
	if err := unix.Prlimit(0, resource, nil, &old); err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: min(value, old.Max), Max: min(value, old.Max)}
	if resource == unix.RLIMIT_CPU {
		limit.Max = min(value+1, old.Max)
	}
	return unix.Prlimit(0, resource, &limit, nil)
}

const (
	secureBits = 1<<0 | 1<<1 | // no root
		1<<2 | 1<<3 | // no setuid fix-up
		1<<5 | // keep_caps locked, off
		1<<6 | 1<<7 // no ambient raise
	lastCap = 63
)

// dropPowers leaves no capability in any set, but what the plan keeps, and no
// way to one.
func dropPowers(plan *Plan) error {
	if !plan.namespaced() && os.Geteuid() != 0 {
		return noNewPrivs() // there are none, and none can be had
	}
	for capability := range uintptr(lastCap + 1) {
		err := prctl(unix.PR_CAPBSET_DROP, capability)
		if errors.Is(err, unix.EINVAL) && capability > 0 {
			break // the kernel has no more
		}
		if err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	if err := prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL); err != nil {
		return fmt.Errorf("ambient set: %w", err)
	}
	kept, err := plan.keptPowers()
	if err != nil {
		return fmt.Errorf("ambient set: %w", err)
	}
	if err := prctl(unix.PR_SET_SECUREBITS, secureBits); err != nil {
		return fmt.Errorf("securebits: %w", err)
	}
	if !plan.namespaced() && plan.Root && !plan.keepsUser {
		if err := becomeSandboxUser(plan); err != nil {
			return err
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &kept[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return noNewPrivs()
}

func noNewPrivs() error {
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

func execArguments(program string, plan *Plan) (argv, envv []*byte, name *byte, err error) {
	if argv, err = syscall.SlicePtrFromStrings(plan.Argv); err != nil {
		return nil, nil, nil, err
	}
	if envv, err = syscall.SlicePtrFromStrings(plan.Env); err != nil {
		return nil, nil, nil, err
	}
	name, err = syscall.BytePtrFromString(program)
	return argv, envv, name, err
}

// execve is syscall.Exec without what that does to RLIMIT_NOFILE: the limit
// set here is the command's.
func execve(name *byte, argv, envv []*byte) error {
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0]))) //nolint:gosec // as in syscall
	return errno
}
