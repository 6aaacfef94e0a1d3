package launch

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Places of the way out.
const (
	ProxySocket = "/run/sop-proxy" // the host's proxy, as the sandbox sees it
	ProxyPort   = 3128             // on loopback, where it is to be found by its variables
)

const (
	maxForwarded  = 64 // connections that are carried at once
	maxPolled     = 1 + 2*maxForwarded
	forwardBuffer = 16 << 10
)

// A forwarder carries what connects to the port on the sandbox's loopback to
// the host's proxy, and back. It looks at nothing: the proxy decides.
type forwarder struct {
	listener int
	pairs    [maxForwarded]pair
	open     int
}

// A pair is a connection inside with the one outside.
type pair struct {
	open            bool
	inside, outside int
	out, back       stream
}

// A stream goes one way, and ends when all that was read has been written.
type stream struct {
	buffer      [forwardBuffer]byte
	start, end  int  // of what is yet to be written
	read, ended bool // there is no more to read, nor to write
}

func newForwarder() (*forwarder, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: ProxyPort, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if err := unix.Listen(fd, maxForwarded); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &forwarder{listener: fd}, nil
}

// wants adds what the forwarder waits for: one for its listener, two for every
// pair. A nil one waits for nothing.
func (f *forwarder) wants(poll []unix.PollFd) []unix.PollFd {
	if f == nil {
		return poll
	}
	poll = append(poll, wanted(f.listener, f.open < maxForwarded, false))
	for i := range f.pairs {
		p := &f.pairs[i]
		poll = append(poll,
			wanted(p.inside, p.open && p.out.hasRoom(), p.open && p.back.hasData()),
			wanted(p.outside, p.open && p.back.hasRoom(), p.open && p.out.hasData()))
	}
	return poll
}

// wanted is passed over by poll where there is nothing to wait for, or one end
// that is gone would be told of for ever.
func wanted(fd int, in, out bool) unix.PollFd {
	poll := unix.PollFd{Fd: -1}
	if in {
		poll.Fd, poll.Events = int32(fd), unix.POLLIN
	}
	if out {
		poll.Fd, poll.Events = int32(fd), poll.Events|unix.POLLOUT
	}
	return poll
}

// carry does what can be done without waiting.
func (f *forwarder) carry(poll []unix.PollFd) {
	if f == nil {
		return
	}
	for i := range f.pairs {
		p := &f.pairs[i]
		if !p.open || poll[1+2*i].Revents == 0 && poll[2+2*i].Revents == 0 {
			continue
		}
		if !p.out.move(p.inside, p.outside) || !p.back.move(p.outside, p.inside) || p.out.ended && p.back.ended {
			CloseAll([]int{p.inside, p.outside})
			p.open = false
			f.open--
		}
	}
	if poll[0].Revents != 0 {
		f.accept()
	}
}

// accept takes one connection. One that has no counterpart is closed at once.
func (f *forwarder) accept() {
	inside, _, err := unix.Accept4(f.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return // who connected is gone, or there are no descriptors for now
	}
	outside, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		CloseAll([]int{inside})
		return
	}
	if err := unix.Connect(outside, &unix.SockaddrUnix{Name: ProxySocket}); err != nil {
		CloseAll([]int{inside, outside}) // the run is over
		return
	}
	for i := range f.pairs {
		if p := &f.pairs[i]; !p.open {
			p.open, p.inside, p.outside = true, inside, outside
			p.out.begin()
			p.back.begin()
			f.open++
			return
		}
	}
}

func (s *stream) begin() { s.start, s.end, s.read, s.ended = 0, 0, false, false }

func (s *stream) hasData() bool { return s.start < s.end }

func (s *stream) hasRoom() bool { return !s.hasData() && !s.read }

// move reads, writes, and ends, as far as that goes. It says whether both ends
// are still good.
func (s *stream) move(from, to int) bool {
	if s.hasRoom() {
		n, err := unix.Read(from, s.buffer[:])
		switch {
		case err == nil:
			s.start, s.end, s.read = 0, n, n == 0
		case !isNotYet(err):
			return false
		}
	}
	if s.hasData() {
		n, err := unix.Write(to, s.buffer[s.start:s.end])
		if err != nil && !isNotYet(err) {
			return false
		}
		s.start += max(n, 0)
	}
	if s.read && !s.ended {
		s.ended = true
		return unix.Shutdown(to, unix.SHUT_WR) == nil
	}
	return true
}

func isNotYet(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }
