package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// A seed is the process of which each run gets a copy for its launcher. It is
// started with the first run and ends with the host, or with Close.
type seed struct {
	mu      sync.Mutex
	cmd     *exec.Cmd // nil while there is none
	control launch.Control
}

// copy returns a pidfd of a new launcher that has these descriptors. A seed that
// is gone is replaced once.
func (s *seed) copy(path string, fds []int) (pidfd int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 2 {
		if s.cmd == nil {
			if err := s.start(path); err != nil {
				return -1, err
			}
		}
		if pidfd, err = s.ask(fds); err == nil {
			return pidfd, nil
		}
		_ = s.cmd.Process.Kill() // it may be dead, and nothing hangs on it
		s.stop()
	}
	return -1, fmt.Errorf("%s: no launcher was to be had: %w", path, err)
}

// answerSeconds is more than the seed takes to come up on any machine.
const answerSeconds = 30

func (s *seed) ask(fds []int) (pidfd int, err error) {
	if err := s.control.Send(struct{}{}, fds...); err != nil {
		return -1, err
	}
	var m launch.Message
	got, err := s.control.Receive(&m)
	if err == nil && (m.Kind != launch.KindLaunched || len(got) != 1) {
		launch.CloseAll(got)
		err = unix.EAGAIN // it cannot fork
	}
	if err != nil {
		return -1, err
	}
	return got[0], nil
}

func (s *seed) start(path string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	remote := os.NewFile(uintptr(pair[1]), "control")
	cmd := &exec.Cmd{
		Path: path, Args: launch.SeedArgs, Env: launch.SeedEnv, Dir: "/", ExtraFiles: []*os.File{remote},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerSeconds})
	if err == nil {
		err = cmd.Start()
	}
	if err = errors.Join(err, remote.Close()); err != nil {
		return errors.Join(err, unix.Close(pair[0]))
	}
	s.cmd, s.control = cmd, launch.Control{FD: pair[0]}
	return nil
}

// stop ends the seed, which goes when its socket closes. Its copies go on.
func (s *seed) stop() {
	if s.cmd == nil {
		return
	}
	_ = unix.Close(s.control.FD) // nobody else has it
	_ = s.cmd.Wait()             // how it ends says nothing
	s.cmd = nil
}

// Close ends what the runner keeps between runs. Those that go on are not
// disturbed, and the next one begins anew.
func (r *Runner) Close() error {
	r.seed.mu.Lock()
	defer r.seed.mu.Unlock()
	r.seed.stop()
	return nil
}

// groupFDs opens the ways into a group; none for no group.
func groupFDs(group *cgroup.Group) ([]*os.File, error) {
	if group == nil {
		return nil, nil
	}
	return group.Ways()
}
