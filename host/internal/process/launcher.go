package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
)

// Containment says how a process's descendants are bound to it.
type Containment string

const (
	// PIDNamespace says that the kernel ends every descendant with the process,
	// however it has detached itself.
	PIDNamespace Containment = "pid-namespace"
	// ProcessGroup says that descendants that stay in the session are ended with
	// the process; the kernel ends the process, but not them, when the host is killed.
	ProcessGroup Containment = "process-group"
)

// Request says what to start.
type Request struct {
	// Path is what is executed, such as "/proc/self/fd/7" for an open file of the
	// host; Argv and Env are all that it is told.
	Path      string
	Argv, Env []string
	Dir       string
	// Files are its descriptors from 0 on; the caller closes them. A nil Files[0]
	// is the null device.
	Files []*os.File
	// Group to be started in; nil for none.
	Group *cgroup.Group
	// Namespace asks for a pid namespace of its own, where one can be had. In it
	// the process is pid 1, to which a signal without a handler means nothing.
	Namespace bool
	// Caps are ambient where a user namespace had to be made too.
	Caps []uintptr
	// Outlives says that the process lives on when the host is killed. Any other
	// is killed with it.
	Outlives bool
}

// Launcher starts processes from one OS thread that lives as long as it does:
// the parent-death signal follows the thread that forked, not the process.
type Launcher struct {
	requests chan launchRequest
	done     chan struct{}
	close    sync.Once
}

type launchRequest struct {
	Request
	reply chan launchReply
}

type launchReply struct {
	process     *os.Process
	containment Containment
	err         error
}

// NewLauncher makes a launcher. It tries a pid namespace, and no more once this
// kernel has refused one to this user; with namespaces false it never does.
func NewLauncher(namespaces bool) *Launcher {
	l := &Launcher{requests: make(chan launchRequest), done: make(chan struct{})}
	go cgroup.OnThread(func() { l.run(namespaces) })
	return l
}

// Stop ends the thread. Processes that still live, and do not outlive the host,
// die with it.
func (l *Launcher) Stop() { l.close.Do(func() { close(l.done) }) }

var errStopped = errors.New("the host starts no more processes")

// Start runs a program in a session of its own, with nothing of the host's but
// what the request names.
func (l *Launcher) Start(req Request) (*os.Process, Containment, error) {
	lr := launchRequest{req, make(chan launchReply, 1)}
	select {
	case l.requests <- lr:
	case <-l.done:
		return nil, "", errStopped
	}
	r := <-lr.reply
	return r.process, r.containment, r.err
}

// run serves requests on the calling thread, which is locked.
func (l *Launcher) run(namespaces bool) {
	for {
		select {
		case <-l.done:
			return
		case req := <-l.requests:
			reply := launchReply{containment: ProcessGroup}
			namespaced := req.Namespace && namespaces
			if namespaced {
				reply.containment = PIDNamespace
				reply.process, reply.err = fork(&req.Request, true)
				if refused(reply.err) {
					namespaced, namespaces, reply.containment = false, false, ProcessGroup
				}
			}
			if !namespaced {
				reply.process, reply.err = fork(&req.Request, false)
			}
			req.reply <- reply
			var place *cgroup.PlaceError
			if errors.As(reply.err, &place) && place.Stuck {
				// Others live as long as this thread does; new ones begin on another.
				go cgroup.OnThread(func() { l.run(namespaces) })
				<-l.done
				return
			}
		}
	}
}

// attributes are how req is forked.
func attributes(req *Request, namespaced bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if !req.Outlives {
		attr.Pdeathsig = syscall.SIGKILL
	}
	if !namespaced {
		return attr
	}
	attr.Cloneflags = syscall.CLONE_NEWPID
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		attr.AmbientCaps = req.Caps
	}
	return attr
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
func fork(req *Request, namespaced bool) (*os.Process, error) {
	// What the host itself inherited may lack close-on-exec; what Go opens has it.
	if err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("mark descriptors close-on-exec: %w", err)
	}
	files := req.Files
	if len(files) > 0 && files[0] == nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return nil, err
		}
		defer func() { _ = null.Close() }() // opened for reading only
		files = append([]*os.File{null}, files[1:]...)
	}
	attr := attributes(req, namespaced)
	proc := &os.ProcAttr{Dir: req.Dir, Env: req.Env, Files: files, Sys: attr}
	start := func() (*os.Process, error) { return os.StartProcess(req.Path, req.Argv, proc) }
	if req.Group == nil {
		return start()
	}
	return req.Group.Start(attr, start)
}
