package protocol

import (
	"slices"
	"time"
)

// Mode is how a peer takes part.
type Mode string

// The modes.
const (
	Inactive Mode = "inactive"
	Active   Mode = "active"
	Passive  Mode = "passive" // it answers, and does nothing by itself
)

// Activation says when a peer is taken into service.
type Activation string

// The activations.
const (
	Always   Activation = "always"    // with the host
	OnDemand Activation = "on_demand" // by the first call that needs it
	Manual   Activation = "manual"    // by an operator
)

// Settings are what the configuration says of one protocol. They do not change;
// Apply replaces them.
type Settings struct {
	Name       string
	Activation Activation
	Mode       Mode          // to be in when in service
	IdleStop   time.Duration // of OnDemand: out of service after so long without a call; 0: never
	DependsOn  []string      // protocols that are in service before it
	Components []string      // what the host supervises and it needs
	Timeout    time.Duration // of one call, waiting included
	Drain      time.Duration // for calls in flight when it is taken out
	InFlight   int           // most calls at a time
	Queue      int           // most calls that wait for a place
	MaxPayload int           // bytes of one payload
	MaxResult  int           // bytes of one result, or piece of one
	Sandboxed  []string      // operations of which all that they do stays in a sandbox
	Calls      []string      // what it may call of others: "scp.recall"
	SelfTest   *SelfTest     // nil: none
	Snapshots  *Snapshots    // of payloads; nil: none are kept
}

// SelfTest is one call whose answer shows whether a peer works.
type SelfTest struct {
	Operation string
	Payload   []byte // JSON
	Expect    []byte // JSON, see [matches]; empty: any answer
	Timeout   time.Duration
}

// Snapshots says which payloads are kept, and for how long.
type Snapshots struct {
	Operations []string // none: of all
	Keep       time.Duration
	MaxTotal   int64 // bytes, of this protocol
}

// same says whether the test asks for the same.
func (t *SelfTest) same(u *SelfTest) bool {
	if t == nil || u == nil {
		return t == u
	}
	return t.Operation == u.Operation && slices.Equal(t.Payload, u.Payload) && slices.Equal(t.Expect, u.Expect)
}

// sandboxed says whether all that an operation does stays in a sandbox.
func (s *Settings) sandboxed(operation string) bool { return slices.Contains(s.Sandboxed, operation) }
