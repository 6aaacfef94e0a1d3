// Package halt is the mark of an emergency stop: a file that says that nothing
// may run. It is there or it is not, whatever becomes of the host, the store or
// the audit log; who starts something, or accepts a token, asks it first.
//
// It may be imported by startup and by nobody else of ours; features are given a
// function.
package halt

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// ReasonStopped is the reason of the error that [Mark.Check] returns.
const ReasonStopped = "EMERGENCY_STOPPED"

// State is an emergency stop.
type State struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	// Recorded says that it is in the audit log. One that was made without the host,
	// or whose record could not be written, is recorded when that can be.
	Recorded bool `json:"recorded"`
	// Lifted is when, by whom and why it was ended; nil while it is in force.
	Lifted *Lift `json:"lifted,omitempty"`
}

// Lift is the end of an emergency stop.
type Lift struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
}

// Mark is where the mark of a host lies: in a directory of its own, so that it
// can be watched.
type Mark struct{ Dir string }

func (m Mark) stopped() string { return filepath.Join(m.Dir, "stopped.json") }
func (m Mark) lifted() string  { return filepath.Join(m.Dir, "lifted.json") }
func (m Mark) room() string    { return filepath.Join(m.Dir, ".room") }

// roomSize is what a mark may take, in bytes.
const roomSize = 4096

// Reserve keeps room for a mark, which [Mark.Set] uses up: what fills a disk may be
// what is to be stopped.
func (m Mark) Reserve() error {
	if _, err := os.Lstat(m.room()); err == nil {
		return nil
	}
	if err := m.replace(m.room(), bytes.Repeat([]byte{' '}, roomSize), m.create); err != nil {
		return fmt.Errorf("keep room for the mark of an emergency stop: %w", err)
	}
	return nil
}

// Check returns an error while an emergency stop is in force. It costs one look
// at a directory.
func (m Mark) Check() error {
	if _, err := os.Lstat(m.stopped()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return Stopped()
}

// Stopped is the error of what is not done because of an emergency stop.
func Stopped() error {
	return sdk.Errorf(codes.FailedPrecondition, ReasonStopped, "everything was stopped in an emergency").
		WithRemedy("`sop status` says by whom and why; `sop resume` lifts it")
}

// Set puts the mark there, for good when it returns. One that is there already
// stays as it is.
func (m Mark) Set(s State) error {
	if m.Check() != nil {
		return nil //nolint:nilerr // what cannot be read is no mark
	}
	return m.write(m.stopped(), &s, m.reserved)
}

// Update replaces what the mark that is in force says.
func (m Mark) Update(s *State) error { return m.write(m.stopped(), s, m.create) }

// Read returns the emergency stop that is in force; nil for none. A mark that
// cannot be read is one.
func (m Mark) Read() *State { return read(m.stopped()) }

// Lifted returns the one that was lifted without being recorded; nil for none. Its
// field of that name is set.
func (m Mark) Lifted() *State {
	s := read(m.lifted())
	if s != nil && s.Lifted == nil { // it cannot be read
		s.Lifted = &Lift{Reason: s.Reason}
	}
	return s
}

func read(path string) *State {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	s := new(State)
	if err != nil || json.Unmarshal(data, s) != nil {
		return &State{Reason: "the mark cannot be read"}
	}
	return s
}

// Lift takes the mark away and keeps what it said, until [Mark.Forget].
func (m Mark) Lift(l Lift) error {
	s := m.Read()
	if s == nil {
		return nil
	}
	s.Lifted = &l
	if err := m.write(m.lifted(), s, m.create); err != nil {
		return err
	}
	if err := os.Remove(m.stopped()); err != nil {
		return fmt.Errorf("take the mark of the emergency stop away: %w", err)
	}
	return syncDir(m.Dir)
}

// Forget removes what Lift kept.
func (m Mark) Forget() error {
	if err := os.Remove(m.lifted()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (m Mark) write(path string, s *State, open func() (*os.File, error)) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := m.replace(path, data, open); err != nil {
		return fmt.Errorf("mark the emergency stop: %w", err)
	}
	return nil
}

// replace replaces a file by one that is opened for it, so that it is there after a
// power failure too.
func (m Mark) replace(path string, data []byte, open func() (*os.File, error)) error {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	f, err := open()
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Truncate(int64(len(data))), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(m.Dir)
}

func (m Mark) create() (*os.File, error) { return os.CreateTemp(m.Dir, ".new-") }

// reserved opens the room that was kept, or a new file where there is none. Its name
// is this process's alone.
func (m Mark) reserved() (*os.File, error) {
	name := filepath.Join(m.Dir, ".new-"+rand.Text())
	if kept := os.Rename(m.room(), name); kept != nil {
		f, err := m.create()
		if err != nil {
			err = errors.Join(err, kept)
		}
		return f, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		err = errors.Join(err, os.Remove(name))
	}
	return f, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
