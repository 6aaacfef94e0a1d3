package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// MaxPacket bounds a Plan and a Message as they are sent.
const MaxPacket = 192 << 10

// A Control is one end of the socket between host and stages. Packets are
// whole or not at all, so several stages may send on one end.
type Control struct{ FD int }

// Send sends a value with descriptors, which remain the caller's.
func (c Control) Send(value any, fds ...int) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if len(data) > MaxPacket {
		return fmt.Errorf("a message of %d bytes is over the limit of %d", len(data), MaxPacket)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return retry(func() error { return unix.Sendmsg(c.FD, data, rights, nil, unix.MSG_NOSIGNAL) })
}

// Receive waits for one packet. The descriptors that it carried are the
// caller's, and close on exec. io.EOF says that the other end has closed.
func (c Control) Receive(value any) (fds []int, err error) {
	var n, oobn, flags int
	err = retry(func() (err error) {
		n, _, _, _, err = unix.Recvmsg(c.FD, nil, nil, unix.MSG_PEEK|unix.MSG_TRUNC)
		return err
	})
	if err != nil {
		return nil, err
	}
	data, oob := make([]byte, min(n, MaxPacket)+1), make([]byte, unix.CmsgSpace(4*maxRights))
	err = retry(func() (err error) {
		n, oobn, flags, _, err = unix.Recvmsg(c.FD, data, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case n == 0 && oobn == 0:
		return nil, io.EOF
	}
	if oobn > 0 {
		if fds, err = received(oob[:oobn]); err != nil {
			return nil, err
		}
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("a packet was cut off")
	} else {
		err = json.Unmarshal(data[:n], value)
	}
	if err != nil {
		CloseAll(fds)
		return nil, err
	}
	return fds, nil
}

func received(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		more, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			CloseAll(fds)
			return nil, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

// CloseAll closes descriptors of which nothing more is wanted.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// A StageError is a step that could not be taken. Nothing was run.
type StageError struct {
	Stage string
	Err   error
}

// Error implements error.
func (r *StageError) Error() string { return r.Stage + ": " + r.Err.Error() }

// Unwrap returns what was wrong with the step.
func (r *StageError) Unwrap() error { return r.Err }

// at makes a StageError of err, or nil of nil. The innermost stage is kept.
func at(stage string, err error) error {
	var inner *StageError
	if err == nil || errors.As(err, &inner) {
		return err
	}
	return &StageError{Stage: stage, Err: err}
}

// refusal is the message that says why err ended everything.
func refusal(err error) Message {
	m := Message{Kind: KindRefused, Stage: "launcher", Detail: err.Error()}
	var r *StageError
	if errors.As(err, &r) {
		m.Stage, m.Detail = r.Stage, r.Err.Error()
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		m.Errno = errno
	}
	return m
}
