package sandbox

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// A launcherProcess is a running sop-sandbox with what it says and what the
// command writes.
type launcherProcess struct {
	cmd      *exec.Cmd
	control  launch.Control
	messages <-chan received // closed when all stages are dead
	tooMuch  <-chan struct{} // closed when there is more output than allowed

	readers        sync.WaitGroup
	stdout, stderr *capture
	stdin          *os.File
}

// received is a message with the descriptors that it carried.
type received struct {
	launch.Message
	fds []int
}

// take returns the one descriptor, now the caller's, or 0.
func (r *received) take() int {
	if len(r.fds) == 0 {
		return 0
	}
	fd := r.fds[0]
	r.fds = r.fds[1:]
	return fd
}

func startLauncher(path string, spec *Spec, group *cgroup.Group) (p *launcherProcess, err error) {
	var ours, theirs closers
	defer func() {
		err = errors.Join(err, theirs.close())
		if err != nil {
			err = errors.Join(err, ours.close())
		}
	}()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	remote := os.NewFile(uintptr(pair[1]), "control")
	theirs = append(theirs, remote)
	ours = append(ours, closeFD(pair[0]))
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 2*launch.MaxPacket); err != nil {
		return nil, err
	}
	var ends [3][2]*os.File // ours and theirs, of stdin, stdout and stderr
	for i := range ends {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		ends[i] = [2]*os.File{r, w}
		if i == 0 {
			ends[i] = [2]*os.File{w, r}
		}
		ours, theirs = append(ours, ends[i][0]), append(theirs, ends[i][1])
	}
	cmd := &exec.Cmd{
		Path: path, Args: []string{LauncherName, "launch"}, Env: []string{"GOMAXPROCS=2", "GOGC=off"},
		Stdin: ends[0][1], Stdout: ends[1][1], Stderr: ends[2][1], ExtraFiles: []*os.File{remote},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := startIn(group, cmd); err != nil {
		return nil, err
	}
	p = &launcherProcess{cmd: cmd, control: launch.Control{FD: pair[0]}, stdin: ends[0][0]}
	p.follow(spec, ends[1][0], ends[2][0])
	return p, nil
}

// follow starts what reads and writes until the run is over.
func (p *launcherProcess) follow(spec *Spec, stdout, stderr *os.File) {
	messages, tooMuch := make(chan received), make(chan struct{})
	p.messages, p.tooMuch = messages, tooMuch
	over := sync.OnceFunc(func() { close(tooMuch) })
	p.stdout = &capture{limit: spec.Profile.Limits.OutputBytes, over: over}
	p.stderr = &capture{limit: spec.Profile.Limits.OutputBytes, over: over}
	if s := spec.Service; s != nil {
		p.stdout.also, p.stderr.also = s.Stdout, s.Stderr
	}
	p.readers.Go(func() { p.stdout.read(stdout) })
	p.readers.Go(func() { p.stderr.read(stderr) })
	p.readers.Go(func() {
		_, _ = p.stdin.Write(spec.Stdin) // whether the command reads it is its own affair
		_ = p.stdin.Close()
	})
	p.readers.Go(func() {
		defer close(messages)
		for {
			var m received
			fds, err := p.control.Receive(&m.Message)
			if err != nil {
				return // all ends are closed
			}
			m.fds = fds
			messages <- m
		}
	})
}

// finish waits for what is left when the messages have ended.
func (p *launcherProcess) finish() (stdout, stderr *capture) {
	_ = p.stdin.Close() // it may be closed
	_ = p.cmd.Wait()    // the messages have said how it ended
	p.readers.Wait()
	_ = unix.Close(p.control.FD)
	return p.stdout, p.stderr
}

// abandon ends a launcher that has not been told anything yet.
func (p *launcherProcess) abandon() error {
	err := p.cmd.Process.Kill()
	for m := range p.messages {
		launch.CloseAll(m.fds)
	}
	p.finish()
	return err
}

// A capture keeps the beginning of a stream and counts the rest.
type capture struct {
	limit int64
	over  func()
	also  io.Writer // is written all of it; nil for none
	kept  bytes.Buffer
	total int64
}

// read returns when nobody writes any longer.
func (c *capture) read(from *os.File) {
	defer from.Close() //nolint:errcheck // only read from
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		c.total += int64(n)
		c.kept.Write(buffer[:min(int64(n), c.limit-int64(c.kept.Len()))])
		if c.also != nil {
			_, _ = c.also.Write(buffer[:n]) // whether it is read is the reader's affair
		}
		if c.total > c.limit {
			c.over()
		}
		if err != nil {
			return
		}
	}
}

// closers are closed together.
type closers []io.Closer

func (c closers) close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

type closeFD int

// Close implements io.Closer.
func (fd closeFD) Close() error { return unix.Close(int(fd)) }
