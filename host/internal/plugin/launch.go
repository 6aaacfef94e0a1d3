package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
	"github.com/sop-host/sop/sdk"
)

// Containment says how a plugin's descendants are bound to it.
type Containment string

const (
	// PIDNamespace says that the kernel ends every descendant with the plugin, however
	// it has detached itself, and ends the plugin with the host.
	PIDNamespace Containment = "pid-namespace"
	// ProcessGroup says that descendants that stay in the session are ended with the
	// plugin; the kernel ends the plugin, but not them, when the host is killed.
	ProcessGroup Containment = "process-group"
)

// launcher starts processes from one OS thread that lives as long as it does:
// the parent-death signal follows the thread that forked, not the process.
type launcher struct {
	requests chan launchRequest
	done     chan struct{}
	close    sync.Once
}

type launchRequest struct {
	bin   *binary
	group *cgroup.Group // to be started in; nil for none
	box   *boxed        // to be isolated by; nil for none
	argv  []string
	env   []string
	dir   string
	out   *os.File // the child's standard output; the caller closes it
	err   *os.File // the child's standard error; the caller closes it
	reply chan launchReply
}

type launchReply struct {
	process     *os.Process
	containment Containment
	err         error
}

// newLauncher tries the levels in order, and the next one for good when this
// kernel or user may not have one.
func newLauncher(levels []containmentLevel) *launcher {
	l := &launcher{requests: make(chan launchRequest), done: make(chan struct{})}
	go cgroup.OnThread(func() { l.run(levels) })
	return l
}

// stop ends the thread. Processes that still live die with it.
func (l *launcher) stop() { l.close.Do(func() { close(l.done) }) }

var errLauncherStopped = errors.New("the plugin host has stopped")

// start runs a program in a session of its own, with nothing of the host's but
// what the request names.
func (l *launcher) start(req launchRequest) (*os.Process, Containment, error) {
	req.reply = make(chan launchReply, 1)
	select {
	case l.requests <- req:
	case <-l.done:
		return nil, "", errLauncherStopped
	}
	r := <-req.reply
	return r.process, r.containment, r.err
}

// run serves requests on the calling thread, which is locked.
func (l *launcher) run(levels []containmentLevel) {
	for {
		select {
		case <-l.done:
			return
		case req := <-l.requests:
			var reply launchReply
			for len(levels) > 0 {
				reply.containment = levels[0].containment
				reply.process, reply.err = fork(req, levels[0].attr)
				if len(levels) == 1 || !refused(reply.err) {
					break
				}
				levels = levels[1:]
			}
			req.reply <- reply
			var place *cgroup.PlaceError
			if errors.As(reply.err, &place) && place.Stuck {
				// Other plugins live as long as this thread does; new ones begin on another.
				go cgroup.OnThread(func() { l.run(levels) })
				<-l.done
				return
			}
		}
	}
}

type containmentLevel struct {
	containment Containment
	attr        func() *syscall.SysProcAttr
}

// containmentLevels lists what may be tried, strongest first.
func containmentLevels() []containmentLevel {
	base := func() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL} }
	namespace := containmentLevel{PIDNamespace, func() *syscall.SysProcAttr {
		attr := base()
		attr.Cloneflags = syscall.CLONE_NEWPID
		return attr
	}}
	if os.Geteuid() != 0 {
		namespace.attr = func() *syscall.SysProcAttr {
			attr := base()
			attr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
			return attr
		}
	}
	return []containmentLevel{namespace, {ProcessGroup, base}}
}

// refused says whether err means that a namespace cannot be had.
func refused(err error) bool {
	var place *cgroup.PlaceError
	if errors.As(err, &place) {
		return false // it is the cgroup that cannot be had
	}
	for _, e := range []syscall.Errno{syscall.EPERM, syscall.EINVAL, syscall.ENOSPC, syscall.EACCES, syscall.ENOSYS, syscall.EUSERS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// fork starts one process from the calling thread.
func fork(req launchRequest, attr func() *syscall.SysProcAttr) (*os.Process, error) {
	// What the host itself inherited may lack close-on-exec; what Go opens has it.
	if err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("mark descriptors close-on-exec: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer func() { _ = null.Close() }() // opened for reading only
	path := req.bin.path
	if !req.bin.script {
		path = fmt.Sprintf("/proc/self/fd/%d", req.bin.file.Fd())
	}
	defer runtime.KeepAlive(req.bin.file)
	proc := &os.ProcAttr{Dir: req.dir, Env: req.env, Files: []*os.File{null, req.out, req.err}, Sys: attr()}
	argv := req.argv
	if box := req.box; box != nil { // the stage becomes the program
		path, argv, proc.Env = box.launcher, launch.PluginArgs, launch.PluginEnv
		proc.Files = append(proc.Files, launch.PluginFiles(null, box.plan, req.bin.file, box.words)...)
		if proc.Sys.Cloneflags&syscall.CLONE_NEWUSER != 0 {
			proc.Sys.AmbientCaps = box.caps
		}
	}
	start := func() (*os.Process, error) { return os.StartProcess(path, argv, proc) }
	if req.group == nil {
		return start()
	}
	return req.group.Start(proc.Sys, start)
}

// awaitExit blocks until the process has exited and leaves it unreaped, so that
// its pid, and the number of its process group, still belong to it. It says
// whether a signal ended it, without a core dump: SIGKILL is among those.
func awaitExit(pid int) (killed bool, err error) {
	const cldKilled = 2 // si_code: see waitid(2)
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && info.Code == cldKilled, err
		}
	}
}

// signalGroup signals the process and its group. The process must not have
// been reaped.
func signalGroup(pid int, sig syscall.Signal) error {
	err := syscall.Kill(-pid, sig)
	if errors.Is(err, syscall.ESRCH) {
		err = syscall.Kill(pid, sig)
	}
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// endStrays kills every process that works in dir or beneath it and
// returns how many there were. Plugins and what they start begin in a private
// directory of the plugin host, with the handshake's variable: where no
// namespace ends detached descendants, this finds those that have kept both.
func endStrays(dir string) (int, error) {
	cookie := []byte(sdk.Handshake.MagicCookieKey + "=" + sdk.Handshake.MagicCookieValue)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	found := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cwd, err := os.Readlink("/proc/" + e.Name() + "/cwd")
		if err != nil || !strings.HasPrefix(strings.TrimSuffix(cwd, " (deleted)")+"/", dir+"/") {
			continue // gone, another user's, or elsewhere
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !bytes.Contains(env, cookie) {
			continue // somebody who looks around in there
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
			found++
		}
	}
	return found, nil
}
