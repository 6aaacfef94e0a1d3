package launch

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Places of the way out.
const (
	ProxySocket = "/run/sop-proxy" // the host's proxy, as the sandbox sees it
	ProxyPort   = 3128             // on loopback, where it is to be found by its variables
)

// maxForwarded bounds the connections that are carried at once.
const maxForwarded = 64

// forward carries what connects to the port on the sandbox's loopback to the
// host's proxy, and back. It looks at nothing: the proxy decides.
func forward() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: ProxyPort, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if err := unix.Listen(fd, maxForwarded); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	listener, err := os.NewFile(uintptr(fd), "proxy").SyscallConn()
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	go accept(listener.Read)
	return nil
}

// accept goes on as long as pid 1 does.
func accept(wait func(func(fd uintptr) bool) error) {
	slots := make(chan struct{}, maxForwarded)
	for {
		slots <- struct{}{}
		conn := -1
		err := wait(func(fd uintptr) bool {
			n, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			conn = n
			return !errors.Is(err, unix.EAGAIN)
		})
		if err != nil {
			return // the listener is gone
		}
		if conn < 0 {
			<-slots // who connected is gone, or there are no descriptors for now
			continue
		}
		go func() {
			defer func() { <-slots }()
			carry(conn)
		}()
	}
}

// carry joins a connection with one to the proxy.
func carry(conn int) {
	inside := os.NewFile(uintptr(conn), "inside")
	defer inside.Close() //nolint:errcheck // both ways have ended
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: ProxySocket}); err != nil {
		_ = unix.Close(fd) // the run is over
		return
	}
	_ = unix.SetNonblock(fd, true) // else a thread waits for it
	outside := os.NewFile(uintptr(fd), "outside")
	defer outside.Close() //nolint:errcheck // both ways have ended
	var both sync.WaitGroup
	both.Go(func() { copyAndEnd(outside, inside) })
	copyAndEnd(inside, outside)
	both.Wait()
}

// copyAndEnd ends what it copies to for writing.
func copyAndEnd(to, from *os.File) {
	_, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
	control, controlErr := to.SyscallConn()
	if controlErr != nil {
		return
	}
	how := unix.SHUT_WR
	if err != nil {
		how = unix.SHUT_RDWR
	}
	_ = control.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), how) }) // it may be closed
}
