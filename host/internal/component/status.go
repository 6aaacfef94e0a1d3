package component

import (
	"cmp"
	"slices"
	"time"

	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/sdk"
)

// State is how a component stands.
type State string

// States of a unit.
const (
	StateIdle      State = "idle"      // on demand, and nobody needs it
	StateQueued    State = "queued"    // waits for what it depends on
	StateStarting  State = "starting"  // its process is being started
	StateWaiting   State = "waiting"   // it runs, and is not ready yet
	StateReady     State = "ready"     // it is ready, and so is all that it requires
	StateUnready   State = "unready"   // it was ready, and does not pass its probe any more
	StateBlocked   State = "blocked"   // it is ready, and something that it requires is not
	StateBackoff   State = "backoff"   // it failed and will be started again
	StateStopping  State = "stopping"  // it has been asked to stop
	StateStopped   State = "stopped"   // an operator, or an emergency stop, stopped it
	StateCompleted State = "completed" // it ended by itself, as it may
	StateFailed    State = "failed"    // it will not be started again by itself
)

// States returns all states.
func States() []State {
	return []State{
		StateIdle, StateQueued, StateStarting, StateWaiting, StateReady, StateUnready, StateBlocked, StateBackoff,
		StateStopping, StateStopped, StateCompleted, StateFailed,
	}
}

// Status is how a component stands, at one moment.
type Status struct {
	Name    string
	Command string
	State   State
	// Detail is one sentence on what it waits for; may be empty.
	Detail string
	// Since is when it entered the state; StartedAt when its process was started,
	// zero when there is none.
	Since, StartedAt time.Time
	// Ready says that requests may be sent to it.
	Ready bool
	// PID of its process, 0 when there is none; Instance counts its processes.
	PID, Instance int
	// Adopted says that an earlier host started the process.
	Adopted bool
	// Restarts counts starts after a failure, since the host started, whatever came of
	// them.
	Restarts            int
	Required, OnDemand  bool
	Survives            bool
	DependsOn           []string
	RequiresReady       bool
	Readiness           string // kind of its probe
	LastProbe           Probe
	Users               int // requests and dependants that need it now
	LastError           *sdk.Error
	LastErrorAt         time.Time
	RetryAt             time.Time // zero when it will not be started again by itself
	Cgroup              string    // version, "v2" or "v1"; empty for none
	CgroupRefused       string
	Limits              cgroup.Limits
	Usage               cgroup.Usage
	Sandbox             InForce
	DroppedLines, Lines int64
}

// Probe is what the last probe found.
type Probe struct {
	At    time.Time // zero: there was none
	OK    bool
	Took  time.Duration
	Error string
}

// InForce says which isolation is in force for a process.
type InForce struct {
	// Profile and Level as configured; empty for none.
	Profile, Level string
	// Layers that are really in force.
	Layers []string
	// Refused says why one that was asked for, and not enforced, is not.
	Refused string
}

// Status returns how all components stand, sorted by name.
func (s *Supervisor) Status() []Status {
	units := s.all()
	all := make([]Status, 0, len(units))
	for _, u := range units {
		all = append(all, u.status())
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Get returns how one component stands.
func (s *Supervisor) Get(name string) (Status, error) {
	u := s.unit(name)
	if u == nil {
		return Status{}, unknown(name)
	}
	return u.status(), nil
}

func (u *unit) status() Status {
	ready := u.ready()
	u.mu.Lock()
	spec, i := u.spec, u.instance
	st := Status{
		Name: u.name, Command: spec.Command, State: u.state, Detail: u.detail, Since: u.since, Ready: ready,
		Instance: u.number, Restarts: u.restarts, Required: spec.Required, OnDemand: spec.OnDemand, Survives: spec.Survives,
		DependsOn: slices.Clone(spec.DependsOn), RequiresReady: spec.RequiresReady, Readiness: string(spec.Readiness.Kind),
		LastProbe: u.lastProbe, Users: u.users, LastError: u.lastErr, LastErrorAt: u.lastErrAt, RetryAt: u.retryAt,
	}
	u.mu.Unlock()
	st.Lines, st.DroppedLines = u.log.counts()
	if st.State == StateReady && !ready {
		st.State, st.Detail = StateBlocked, "waits for "+u.missing(spec)
	}
	if i == nil {
		return st
	}
	st.PID, st.Adopted, st.StartedAt = i.handle.PID, i.child == nil, i.startedAt
	st.Cgroup, st.CgroupRefused, st.Limits, st.Usage = i.confined.version, i.confined.refused, i.confined.limits, i.confined.usage()
	st.Sandbox = i.inForce
	return st
}
