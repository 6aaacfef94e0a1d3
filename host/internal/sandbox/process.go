package sandbox

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// A launcherProcess is the launcher of one run with what it says and what the
// command writes.
type launcherProcess struct {
	pidfd    int
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

func startLauncher(runner *Runner, spec *Spec, group *cgroup.Group) (p *launcherProcess, err error) {
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
	fds := []int{pair[1]}
	ours, theirs = append(ours, closeFD(pair[0])), append(theirs, closeFD(pair[1]))
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 2*launch.MaxPacket); err != nil {
		return nil, err
	}
	var local [3]*os.File // ends of stdin, stdout and stderr
	for i := range local {
		var remote int
		if local[i], remote, err = pipe(i == 0); err != nil {
			return nil, err
		}
		fds = append(fds, remote)
		ours, theirs = append(ours, local[i]), append(theirs, closeFD(remote))
	}
	ways, err := groupFDs(group)
	if err != nil {
		return nil, err
	}
	for _, way := range ways {
		fds = append(fds, int(way.Fd()))
		theirs = append(theirs, way)
	}
	pidfd, err := runner.seed.copy(runner.Launcher, fds)
	if err != nil {
		return nil, err
	}
	p = &launcherProcess{pidfd: pidfd, control: launch.Control{FD: pair[0]}, stdin: local[0]}
	p.follow(spec, local[1], local[2])
	return p, nil
}

// pipe returns the end of a pipe that is for this process, and the other.
func pipe(write bool) (local *os.File, remote int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, err
	}
	if write {
		ends[0], ends[1] = ends[1], ends[0]
	}
	if err := unix.SetNonblock(ends[0], true); err != nil { // else a thread waits for it
		return nil, -1, errors.Join(err, unix.Close(ends[0]), unix.Close(ends[1]))
	}
	return os.NewFile(uintptr(ends[0]), "pipe"), ends[1], nil
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
	p.readers.Wait()
	launch.CloseAll([]int{p.control.FD, p.pidfd})
	return p.stdout, p.stderr
}

// abandon ends a launcher that has not been told anything yet.
func (p *launcherProcess) abandon() error {
	err := p.kill()
	for m := range p.messages {
		launch.CloseAll(m.fds)
	}
	p.finish()
	return err
}

func (p *launcherProcess) kill() error {
	err := unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // it is dead
	}
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
