package sandbox

import (
	"fmt"
	"syscall"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox/egress"
	"github.com/sop-host/sop/host/internal/sandbox/launch"
)

// A Status is how a run ended. The zero Status is Refused: whatever was not
// filled in has not succeeded.
type Status int

// The ways in which a run ends.
const (
	Refused  Status = iota // nothing was run
	Exited                 // the command ended by itself, whatever its code
	Killed                 // a signal ended it
	Limited                // it was ended at a limit
	Canceled               // the caller did not want it any longer
	Lost                   // the sandbox itself broke down
)

var statusNames = [...]string{"refused", "exited", "killed", "limited", "canceled", "lost"}

// String implements fmt.Stringer.
func (s Status) String() string { return statusNames[s] }

// MarshalText implements encoding.TextMarshaler.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Exit codes that the host assigns where the command has none of its own.
const (
	ExitOutOfMemory = 122
	ExitOutput      = 123
	ExitTimeout     = 124
	ExitRefused     = 125
)

// A Result is the evidence of one run.
type Result struct {
	Status Status `json:"status"`
	Exit   int    `json:"exit"` // see ExitCode
	Signal string `json:"signal,omitempty"`
	// Limits are those that were hit, the one that ended the run first.
	Limits []string `json:"limits_hit,omitempty"`
	// Refusal is set if and only if nothing was run.
	Refusal *Refusal `json:"refusal,omitempty"`

	Level       Level    `json:"level,omitempty"` // in force
	LandlockABI int      `json:"landlock_abi,omitempty"`
	Counted     bool     `json:"cgroup"`  // a cgroup held the run
	OwnID       bool     `json:"root_id"` // it had root's id, without its powers, for want of idmapped mounts
	Notes       []string `json:"notes,omitempty"`

	Stdout Output `json:"stdout"`
	Stderr Output `json:"stderr"`

	Usage  Usage           `json:"usage"`
	Denied []launch.Denied `json:"denied,omitempty"`
	// Network is where the run wanted to go.
	Network []egress.Decision        `json:"network,omitempty"`
	Phases  map[string]time.Duration `json:"phases_ns,omitempty"` // since the run was asked for
}

// ExitCode is the command's own where it exited by itself, and otherwise the one
// that the host assigns.
func (r *Result) ExitCode() int {
	switch {
	case r.Status == Exited:
		return r.Exit
	case r.Status == Limited && r.hit(LimitMemory):
		return ExitOutOfMemory
	case r.Status == Limited && r.hit(LimitOutput):
		return ExitOutput
	case r.Status == Limited:
		return ExitTimeout
	}
	return ExitRefused
}

// Names of limits.
const (
	LimitWall   = "wall"
	LimitCPU    = "cpu"
	LimitMemory = "memory"
	LimitOutput = "output"
)

func (r *Result) hit(limit string) bool { return len(r.Limits) > 0 && r.Limits[0] == limit }

// A Refusal says which step of building the sandbox could not be taken.
type Refusal struct {
	Stage  string        `json:"stage"`
	Errno  syscall.Errno `json:"errno"`
	Detail string        `json:"detail"`
}

// String implements fmt.Stringer.
func (r *Refusal) String() string {
	if r.Errno == 0 {
		return fmt.Sprintf("%s: %s", r.Stage, r.Detail)
	}
	return fmt.Sprintf("%s: %s (errno %d)", r.Stage, r.Detail, r.Errno)
}

// An Output is the beginning of a stream.
type Output struct {
	Text      string `json:"text"`
	Bytes     int64  `json:"bytes"` // that were written, as far as they were read
	Truncated bool   `json:"truncated,omitempty"`
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Status) UnmarshalText(text []byte) error {
	for i, name := range statusNames {
		if name == string(text) {
			*s = Status(i)
			return nil
		}
	}
	return fmt.Errorf("there is no status %q", text)
}
