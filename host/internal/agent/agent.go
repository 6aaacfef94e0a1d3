package agent

import (
	"slices"
	"time"
)

// Trust says how far an agent is trusted.
type Trust string

// The degrees of trust.
const (
	System   Trust = "system"   // in full
	Exterior Trust = "exterior" // as far as policy lets it
)

// Trusts returns all degrees of trust.
func Trusts() []Trust { return []Trust{System, Exterior} }

// State is where an agent is on its way.
type State string

// The states of an agent. Active is the only one that is left.
const (
	StateActive  State = "active"
	StateRevoked State = "revoked"
	// StateExpired is an active agent's whose time is over; it is not stored, and
	// a rotation with a new life makes the agent active.
	StateExpired State = "expired"
)

// States returns all states.
func States() []State { return []State{StateActive, StateExpired, StateRevoked} }

// Agent is an enrolled caller. An agent that a Service returns is shared and not
// to be changed.
type Agent struct {
	Name   string
	Trust  Trust
	Groups []string // sorted
	State  State    // in the store StateActive or StateRevoked
	Reason string   // why it is in that state

	CreatedAt time.Time
	CreatedBy string
	ChangedAt time.Time
	ExpiresAt time.Time // the first moment at which it is expired; zero: never
	LastUsed  time.Time // zero: never; may lag by [FlushEvery]

	// Version counts changes, so that the later of two copies is known.
	Version int64

	Keys []Key // oldest first
}

// Key is what is kept of an enrolled key.
type Key struct {
	Accessor  string // public handle, a part of the key
	Hash      []byte
	CreatedAt time.Time
	EndsAt    time.Time // when a rotation ended it, or will; zero: it was not rotated
}

// ended says that a rotation has ended the key.
func (k *Key) ended(now time.Time) bool { return !k.EndsAt.IsZero() && !now.Before(k.EndsAt) }

// At is the state of the agent at a time.
func (a *Agent) At(now time.Time) State {
	if a.State == StateActive && !a.ExpiresAt.IsZero() && !now.Before(a.ExpiresAt) {
		return StateExpired
	}
	return a.State
}

// End is when the life of an agent has ended, or is to.
type End struct {
	Name    string
	Revoked bool      // for good
	At      time.Time // the first moment at which it is expired, unless it was revoked
	Version int64     // of the agent
}

// end returns the end of the agent, and whether it has one.
func (a *Agent) end() (End, bool) {
	return End{a.Name, a.State == StateRevoked, a.ExpiresAt, a.Version}, a.State == StateRevoked || !a.ExpiresAt.IsZero()
}

// key returns the key with the accessor, or nil.
func (a *Agent) key(accessor string) *Key {
	i := slices.IndexFunc(a.Keys, func(k Key) bool { return k.Accessor == accessor })
	if i < 0 {
		return nil
	}
	return &a.Keys[i]
}

// Action is what happened to an agent.
type Action string

// What happens to agents.
const (
	Enrolled Action = "enroll"
	Rotated  Action = "rotate"
	Revoked  Action = "revoke"
)

// Change is one thing that happened to an agent.
type Change struct {
	Name     string
	Action   Action
	At       time.Time
	By, Why  string
	Accessor string // of the key that was made, if one was
	Trust    Trust
	Groups   []string
}
