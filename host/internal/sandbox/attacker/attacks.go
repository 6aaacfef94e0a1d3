package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SecretText is what the files and variables outside hold.
const secretText = "the-secret-of-the-host"

// attacks return nil when they have succeeded.
var attacks = map[string]func(Targets) error{
	"read-shadow":      func(Targets) error { return readable("/etc/shadow") },
	"read-secret":      func(t Targets) error { return holds(t.Secret) },
	"read-home":        func(Targets) error { return readable("/root/.profile", "/root/.bashrc") },
	"read-host-passwd": readHostPasswd,
	"write-outside":    func(t Targets) error { return create(filepath.Join(t.Outside, t.Mark)) },
	"write-cache":      func(t Targets) error { return create(filepath.Join(t.Cache, "poison")) },
	"write-workspace":  func(t Targets) error { return create(filepath.Join(t.Workspace, t.Mark)) },
	"write-usr":        func(t Targets) error { return createAndRemove("/usr/" + t.Mark) },
	"write-etc":        func(t Targets) error { return createAndRemove("/etc/" + t.Mark) },
	"tcp":              func(t Targets) error { return dial("tcp", t.TCP) },
	"udp":              udp,
	"abstract-socket":  func(t Targets) error { return dial("unix", t.Abstract) },
	"path-socket":      func(t Targets) error { return dial("unix", t.Unix) },
	"af-vsock":         func(Targets) error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"af-packet":        func(Targets) error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
	"af-alg":           func(Targets) error { return socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) },
	"netlink":          func(Targets) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE) },
	"raw-socket":       func(Targets) error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
	"ptrace-host":      func(t Targets) error { return ptrace(t.Victim) },
	"ptrace-child":     ptraceChild,
	"kill-host":        func(t Targets) error { return unix.Kill(victim(t), 0) },
	"read-host-memory": readHostMemory,
	"list-host":        listHost,
	"setuid-exec":      setuidExec,
	"setuid-file":      func(Targets) error { return setuidFile() },
	"mount":            func(Targets) error { return unix.Mount("tmpfs", os.TempDir(), "tmpfs", 0, "") },
	"fsopen":           func(Targets) error { return call(unix.SYS_FSOPEN, ptr("tmpfs\x00"), 0) },
	"open-tree": func(Targets) error {
		return call(unix.SYS_OPEN_TREE, minusHundred, ptr("/usr\x00"), unix.OPEN_TREE_CLONE)
	},
	"mknod":   func(Targets) error { return unix.Mknod(temp("node"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 1))) },
	"dev-mem": func(Targets) error { return readable("/dev/mem", "/dev/kmem", "/dev/port", "/dev/vda", "/dev/sda") },
	"keyctl":  func(Targets) error { return call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 1) },
	"add-key": func(Targets) error {
		return call(unix.SYS_ADD_KEY, ptr("user\x00"), ptr("sop\x00"), ptr("x"), 1, ^uintptr(1))
	},
	"io-uring": func(Targets) error { return call(unix.SYS_IO_URING_SETUP, 4, ptr(strings.Repeat("\x00", 256))) },
	"bpf": func(Targets) error {
		return call(unix.SYS_BPF, 0, ptr("\x02\x00\x00\x00\x04\x00\x00\x00\x04\x00\x00\x00\x04"+strings.Repeat("\x00", 128)), 128)
	},
	"userfaultfd": func(Targets) error { return call(unix.SYS_USERFAULTFD, 1) },
	"perf-event":  perfEvent,
	"fanotify":    func(Targets) error { return call(unix.SYS_FANOTIFY_INIT, 0, 0) },
	"handles": func(Targets) error {
		return call(unix.SYS_NAME_TO_HANDLE_AT, minusHundred, ptr("/\x00"), ptr("\x80\x00\x00\x00"+strings.Repeat("\x00", 140)), ptr("\x00\x00\x00\x00"), 0)
	},
	"userns-unshare":    func(Targets) error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER) },
	"userns-clone":      func(Targets) error { return clone(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0) },
	"userns-clone3":     usernsClone3,
	"setns":             setns,
	"init-exe":          func(Targets) error { return openForWriting("/proc/1/exe") },
	"init-root":         func(Targets) error { return readable("/proc/1/root/etc/hostname", "/proc/1/root/etc/shadow") },
	"init-mem":          func(Targets) error { return readable("/proc/1/mem", "/proc/1/maps") },
	"init-environ":      func(Targets) error { return readable("/proc/1/environ") },
	"init-fds":          func(Targets) error { return listable("/proc/1/fd") },
	"init-kill":         func(Targets) error { return unix.Kill(1, unix.SIGTERM) },
	"parent-exe":        func(Targets) error { return openForWriting("/proc/self/exe") },
	"chroot":            chroot,
	"descriptor-leak":   func(t Targets) error { return leaked(t.FD) },
	"tiocsti":           func(Targets) error { return reached(ioctl(0, unix.TIOCSTI)) },
	"tiocsti-high":      func(Targets) error { return reached(ioctl(0, unix.TIOCSTI|1<<32)) },
	"tioclinux":         func(Targets) error { return reached(ioctl(0, 0x541C)) },
	"environment":       func(t Targets) error { return is(os.Getenv(t.Env)) },
	"write-proc-sys":    func(Targets) error { return openForWriting("/proc/sys/kernel/core_pattern") },
	"sysrq":             func(Targets) error { return openForWriting("/proc/sysrq-trigger") },
	"kcore":             func(Targets) error { return readable("/proc/kcore") },
	"kallsyms":          func(Targets) error { return readable("/proc/kallsyms") },
	"cgroup":            func(Targets) error { return listable("/sys/fs/cgroup") },
	"scheduler":         scheduler,
	"priority":          func(Targets) error { return syscall.Setpriority(syscall.PRIO_PROCESS, 0, -10) },
	"raise-limit":       raiseLimit,
	"shm":               func(Targets) error { return call(unix.SYS_SHMGET, 0, 4096, 0o1600) },
	"memfd":             func(Targets) error { return call(unix.SYS_MEMFD_CREATE, ptr("m\x00"), 0) },
	"clock":             clock,
	"hostname":          hostname,
	"int80":             int80Call,
	"x32":               func(Targets) error { return call(0x40000000 | unix.SYS_GETPID) },
	"personality":       func(Targets) error { return call(unix.SYS_PERSONALITY, 0x0400000) },
	"reboot":            func(Targets) error { return call(unix.SYS_REBOOT, 0, 0, 0) }, // with no magic: never one
	"module":            func(Targets) error { return reached(call(unix.SYS_FINIT_MODULE, ^uintptr(0), 0, 0)) },
	"kexec":             func(Targets) error { return reached(call(unix.SYS_KEXEC_LOAD, 0, 0, 0, ^uintptr(0))) },
	"syslog":            func(Targets) error { return call(unix.SYS_SYSLOG, 10, 0, 0) },
	"unknown-call":      func(Targets) error { return reached(call(9999)) },
	"gain-capabilities": gain,
	"setuid-root":       func(Targets) error { return syscall.Setreuid(0, 0) },
}

const minusHundred = ^uintptr(99) // AT_FDCWD

func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

func ptr(text string) uintptr {
	data := []byte(text)
	kept = append(kept, data)
	return uintptr(unsafe.Pointer(&data[0]))
}

// kept keeps what the kernel has been told the address of.
var kept [][]byte

// reached says that a call got past the filters: it failed for another reason.
func reached(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) {
		return err
	}
	return nil
}

func readable(paths ...string) error {
	var errs []error
	for _, path := range paths {
		file, err := os.Open(path)
		if err == nil {
			n, readErr := file.Read(make([]byte, 64))
			_ = file.Close()
			if n > 0 {
				return nil
			}
			err = readErr
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func holds(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return is(strings.TrimSpace(string(data)))
}

func is(text string) error {
	if text != secretText {
		return fmt.Errorf("not the secret: %q", text)
	}
	return nil
}

// readHostPasswd succeeds when accounts of the host can be seen.
func readHostPasswd(Targets) error {
	data, err := os.ReadFile("/etc/passwd")
	if err == nil && !strings.Contains(string(data), "daemon") {
		err = errors.New("it is not the host's")
	}
	return err
}

func create(path string) error { return os.WriteFile(path, []byte("here\n"), 0o644) }

func createAndRemove(path string) error {
	if err := create(path); err != nil {
		return err
	}
	return os.Remove(path)
}

func openForWriting(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Mode()&os.ModeCharDevice != 0 {
		err = errors.New("it is masked by a device")
	}
	_ = file.Close()
	return err
}

func listable(path string) error {
	entries, err := os.ReadDir(path)
	if err == nil && len(entries) == 0 {
		err = errors.New("it is empty")
	}
	return err
}

func temp(name string) string { return filepath.Join(os.TempDir(), fmt.Sprint(name, os.Getpid())) }

func dial(network, address string) error {
	conn, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return err
	}
	return answers(conn)
}

// udp succeeds only when somebody answers.
func udp(t Targets) error {
	conn, err := net.Dial("udp", t.UDP)
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		return err
	}
	return answers(conn)
}

func answers(conn net.Conn) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	return err
}

func socket(family, kind, protocol int) error {
	_, err := unix.Socket(family, kind, protocol)
	return err
}

// victim is a process outside, or none: pid 0 would be ourselves.
func victim(t Targets) int {
	if t.Victim == 0 {
		return 1 << 22
	}
	return t.Victim
}

func ptrace(pid int) error {
	if err := call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid)); err != nil {
		return err
	}
	return nil // it is let go when this process ends
}

func ptraceChild(Targets) error {
	process, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return err
	}
	return process.Kill()
}

func readHostMemory(t Targets) error {
	buffer := make([]byte, 1)
	local := []unix.Iovec{{Base: &buffer[0], Len: 1}}
	_, err := unix.ProcessVMReadv(victim(t), local, []unix.RemoteIovec{{Base: 0x400000, Len: 1}}, 0)
	if errors.Is(err, unix.EFAULT) {
		return nil // allowed, and only the address was wrong
	}
	return err
}

func listHost(t Targets) error {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil && strings.Contains(string(data), t.Mark+"-victim") {
			return nil
		}
	}
	return fmt.Errorf("%d processes, none of them the host's", len(names))
}

func setuidExec(Targets) error {
	var fs unix.Statfs_t
	if err := unix.Statfs("/usr/bin", &fs); err != nil {
		return err
	}
	locked, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	switch {
	case err != nil:
		return err
	case locked == 1:
		return errors.New("no_new_privs is set")
	case fs.Flags&unix.ST_NOSUID != 0:
		return errors.New("the mount is nosuid")
	}
	return nil
}

func setuidFile() error {
	name := temp("setuid")
	if err := create(name); err != nil {
		return err
	}
	defer os.Remove(name)
	return os.Chmod(name, os.ModeSetuid|0o755)
}

func perfEvent(Targets) error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Config: unix.PERF_COUNT_SW_CPU_CLOCK, Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}
	_, err := unix.PerfEventOpen(&attr, 0, -1, -1, 0)
	return err
}

// clone makes a child that does nothing but end.
func clone(nr, a, b uintptr) error {
	pid, _, errno := unix.RawSyscall6(nr, a, b, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return nil
}

func usernsClone3(Targets) error {
	args := make([]byte, 88)
	args[3] = 0x10 // CLONE_NEWUSER
	args[32] = byte(unix.SIGCHLD)
	return clone(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args[0])), 88)
}

func setns(Targets) error {
	fd, err := unix.Open("/proc/1/ns/uts", unix.O_RDONLY, 0)
	if err != nil {
		fd, err = unix.Open("/proc/self/ns/uts", unix.O_RDONLY, 0)
	}
	if err != nil {
		return err
	}
	return unix.Setns(fd, 0)
}

func chroot(Targets) error {
	dir := temp("root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return unix.Chroot(dir)
}

func leaked(fd int) error {
	data := make([]byte, 64)
	n, err := unix.Pread(fd, data, 0)
	if err != nil {
		return err
	}
	return is(strings.TrimSpace(string(data[:n])))
}

func ioctl(fd, request uintptr) error {
	space := byte(' ')
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(&space)))
	if errno != 0 {
		return errno
	}
	return nil
}

func scheduler(Targets) error {
	priority := int32(1)
	return call(unix.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&priority))) // SCHED_FIFO
}

func raiseLimit(Targets) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return err
	}
	limit.Max++
	limit.Cur = limit.Max
	return unix.Prlimit(0, unix.RLIMIT_NOFILE, &limit, nil)
}

// clock sets the time to what it is.
func clock(Targets) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
}

func hostname(Targets) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	return unix.Sethostname([]byte(name))
}

func gain(Targets) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	all := [2]unix.CapUserData{{Effective: ^uint32(0), Permitted: ^uint32(0)}, {Effective: 0x1ff, Permitted: 0x1ff}}
	return unix.Capset(&header, &all[0])
}
