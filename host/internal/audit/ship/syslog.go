package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sop-host/sop/host/internal/audit"
)

// syslog sends RFC 5424 messages: one a datagram, or with their length before
// each on a stream (RFC 6587). The protocol has no answer. On a stream a batch
// counts as sent once the kernel at the other end has acknowledged every byte;
// of a datagram nothing is known.
type syslog struct {
	network, address string
	format           string
	hostname         string
	conn             net.Conn
	stream           bool
}

func newSyslog(target, format, hostname string) (*syslog, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	s := &syslog{network: u.Scheme, address: u.Host, format: format, hostname: printable(hostname, 255)}
	if u.Scheme == "unix" {
		s.address = u.Path
	}
	return s, nil
}

func (s *syslog) dial(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	networks := []string{s.network}
	if s.network == "unix" {
		networks = []string{"unixgram", "unix"}
	}
	var failed error
	for _, network := range networks {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, s.address)
		if err == nil {
			s.conn, s.stream = conn, network == "tcp" || network == "unix"
			return nil
		}
		failed = err
	}
	return s.failed(failed)
}

func (s *syslog) failed(err error) error {
	return cannot("see that a collector listens there; what was not sent is sent then", "syslog %s: %v", s.address, err)
}

// send implements sender.
func (s *syslog) send(ctx context.Context, messages []message) error {
	if err := s.dial(ctx); err != nil {
		return err
	}
	if err := s.try(ctx, messages); err != nil {
		return errors.Join(s.failed(err), s.close())
	}
	return nil
}

func (s *syslog) try(ctx context.Context, messages []message) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := s.conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Now()) })
	defer stop()
	if s.stream {
		return s.tryStream(ctx, messages)
	}
	for _, m := range messages {
		text, err := s.format5424(m, false)
		if err != nil {
			return err
		}
		_, err = s.conn.Write(text)
		if errors.Is(err, unix.EMSGSIZE) {
			if text, err = s.format5424(m, true); err == nil {
				_, err = s.conn.Write(text)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *syslog) tryStream(ctx context.Context, messages []message) error {
	if err := s.alive(); err != nil {
		return err
	}
	var buf bytes.Buffer
	for _, m := range messages {
		text, err := s.format5424(m, false)
		if err != nil {
			return err
		}
		buf.WriteString(strconv.Itoa(len(text)) + " ")
		buf.Write(text)
	}
	if _, err := s.conn.Write(buf.Bytes()); err != nil {
		return err
	}
	if err := s.acknowledged(ctx); err != nil {
		return err
	}
	return s.alive()
}

// alive reports an end of the connection that shows only to who reads.
func (s *syslog) alive() error {
	raw, err := s.raw()
	if err != nil {
		return err
	}
	var n int
	var readErr error
	err = raw.Control(func(fd uintptr) {
		n, _, readErr = unix.Recvfrom(int(fd), make([]byte, 512), unix.MSG_DONTWAIT)
	})
	switch {
	case err != nil:
		return err
	case errors.Is(readErr, unix.EAGAIN):
		return nil
	case readErr != nil:
		return readErr
	case n == 0:
		return errors.New("the other end closed the connection")
	}
	return nil
}

func (s *syslog) raw() (syscall.RawConn, error) {
	c, ok := s.conn.(interface {
		SyscallConn() (syscall.RawConn, error)
	})
	if !ok {
		return nil, errors.New("the connection has no socket")
	}
	return c.SyscallConn()
}

// acknowledged waits until the other end has taken in all that was written.
func (s *syslog) acknowledged(ctx context.Context) error {
	if s.network != "tcp" {
		return nil
	}
	raw, err := s.raw()
	if err != nil {
		return err
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var waiting int
		var askErr error
		if err := raw.Control(func(fd uintptr) { waiting, askErr = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil {
			return err
		}
		if askErr != nil || waiting == 0 {
			return askErr
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("the other end does not take in what is sent")
		}
	}
}

func (s *syslog) close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

// facility is "log audit" of RFC 5424.
const facility = 13

// format5424 writes one message; small leaves out what makes a record large.
func (s *syslog) format5424(m message, small bool) ([]byte, error) {
	severity, id := 5, "checkpoint"
	var at time.Time
	var text []byte
	if m.note != nil {
		at = m.note.Time
		text = []byte(strings.ReplaceAll(strings.TrimSpace(m.note.Note), "\n", `\n`))
	} else {
		r := m.record
		severity, id, at = map[audit.Outcome]int{audit.Success: 6, audit.Failure: 4, audit.Denied: 4}[r.Outcome], "record", r.Time
		if small {
			cut := *r
			cut.Attributes = map[string]string{"left_out": strconv.Itoa(len(r.Attributes)) + " attributes: too large for a datagram"}
			r = &cut
		}
		var buf bytes.Buffer
		format := audit.CEF
		if s.format == "json" {
			format = audit.JSONL
		}
		if err := format.Write(&buf, r); err != nil {
			return nil, err
		}
		text = bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})
	}
	head := fmt.Sprintf("<%d>1 %s %s sop %d %s - ", facility*8+severity, at.UTC().Format("2006-01-02T15:04:05.000000Z"), s.hostname, os.Getpid(), id)
	return append([]byte(head), text...), nil
}

// printable makes a field of the header: RFC 5424 allows visible ASCII.
func printable(text string, limit int) string {
	clean := strings.Map(func(r rune) rune {
		if r > ' ' && r <= '~' {
			return r
		}
		return -1
	}, text)
	if clean == "" {
		return "-"
	}
	return clean[:min(len(clean), limit)]
}
