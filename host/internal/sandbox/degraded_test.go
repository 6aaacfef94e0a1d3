package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
)

// degraded names what a test takes away from the machine, in a user and mount
// namespace of its own, before it probes.
const (
	degraded          = "SOP_TEST_DEGRADED"
	degradedWorkspace = "SOP_TEST_DEGRADED_WORKSPACE"
)

var degradations = map[string]func() error{
	"nothing":            func() error { return nil },
	"no user namespaces": func() error { return os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0o644) },
	"masked proc":        func() error { return unix.Mount("tmpfs", "/proc/sys", "tmpfs", 0, "") },
	"read-only tmp": func() error {
		return errors.Join(unix.Mount("/tmp", "/tmp", "", unix.MS_BIND|unix.MS_REC, ""),
			unix.MountSetattr(unix.AT_FDCWD, "/tmp", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}))
	},
	"no cgroups":  func() error { return unix.Mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "") },
	"no landlock": withoutLandlock,
}

// withoutLandlock makes the kernel answer as one without landlock does, to this
// process and all that it starts.
func withoutLandlock() error {
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_LANDLOCK_CREATE_RULESET, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

func runDegraded() int {
	programs = os.Getenv(programsVariable)
	err := degradations[os.Getenv(degraded)]()
	if err == nil {
		runner().Cgroups, err = cgroup.Open(cgroup.Options{Owner: fmt.Sprint("degraded ", os.Getpid())})
	}
	defer func() { runner().Cgroups.Close() }()
	var levels []LevelProbe
	for _, level := range Levels {
		if err != nil {
			break
		}
		var p LevelProbe
		p, err = runner().probe(context.Background(), level, os.Getenv(degradedWorkspace))
		levels = append(levels, p)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(levels)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// refusals are what each level answers on a degraded machine: "" where it
// works.
func TestDegradedMachines(t *testing.T) {
	needs(t, LevelStrict)
	type answers map[Level]string
	for name, want := range map[string]answers{
		"nothing":            {LevelStrict: "", LevelNSNoProc: "", LevelLandlock: "", LevelNone: ""},
		"no user namespaces": {LevelStrict: "namespaces 28", LevelNSNoProc: "namespaces 28", LevelLandlock: "", LevelNone: ""},
		"masked proc":        {LevelStrict: "proc 1", LevelNSNoProc: "", LevelLandlock: "", LevelNone: ""},
		"read-only tmp":      {LevelStrict: "", LevelNSNoProc: "", LevelLandlock: "private copy 30", LevelNone: "private copy 30"},
		"no cgroups":         {LevelStrict: "", LevelNSNoProc: "", LevelLandlock: "", LevelNone: ""},
		"no landlock":        {LevelStrict: "landlock 0", LevelNSNoProc: "landlock 0", LevelLandlock: "landlock 38", LevelNone: ""},
	} {
		t.Run(name, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), degraded+"="+name, degradedWorkspace+"="+t.TempDir(), programsVariable+"="+programs)
			cmd.Stderr = os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			}
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			var levels []LevelProbe
			if err := json.Unmarshal(out, &levels); err != nil {
				t.Fatal(err)
			}
			for _, l := range levels {
				got := ""
				if l.Refusal != nil {
					got = fmt.Sprintf("%s %d", l.Refusal.Stage, int(l.Refusal.Errno))
				}
				if got != want[l.Level] {
					t.Errorf("%s: %q, want %q (%v)", l.Level, got, want[l.Level], l.Refusal)
				}
			}
		})
	}
}
