package plugin

import (
	"cmp"
	"slices"
	"time"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Status is how a plugin stands, at one moment.
type Status struct {
	ID, Kind, Name string
	Command        string
	Hash           string
	// Version and Summary as the last described generation gave them.
	Version, Summary string
	// Capabilities are the optional abilities that it named.
	Capabilities []string
	State        State
	// Since is when it entered the state.
	Since time.Time
	// Generation and PID of the process in service; PID is 0 when none is.
	Generation, PID int
	// Containment in force for the process in service.
	Containment Containment
	// Sandbox in force for the process in service.
	Sandbox Sandbox
	// Cgroup is the version of the process's cgroup, "v2" or "v1"; empty when it
	// has none. CgroupRefused says why, or which default limit is not in force.
	Cgroup, CgroupRefused string
	// Limits in force, and what the process and its descendants use.
	Limits Limits
	Usage  Usage
	// Restarts counts recoveries from a failure, since the host started.
	Restarts int
	// LastError is the last failure; nil when there was none.
	LastError   *sdk.Error
	LastErrorAt time.Time
	// RetryAt is when it will be started again; zero when it will not.
	RetryAt time.Time
	// Calls, Failures and Busy (summed over calls) count since it was configured.
	Calls, Failures int64
	Busy            time.Duration
	InFlight        int64
	// DroppedLogLines of the process in service.
	DroppedLogLines int64
}

// Description is what a plugin says of itself.
type Description struct{ *pluginv1.DescribeResponse }

// Status returns how all plugins stand, sorted by id.
func (p *Pool) Status() []Status {
	p.mu.RLock()
	all := make([]Status, 0, len(p.units))
	for _, u := range p.units {
		all = append(all, u.status())
	}
	p.mu.RUnlock()
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (u *unit) status() Status {
	s, g := u.standing()
	if g == nil {
		return s
	}
	s.PID, s.Containment, s.InFlight = g.runner.pid(), g.runner.containmentLevel(), g.inFlight()
	s.Sandbox = g.runner.sandboxed()
	s.DroppedLogLines = g.runner.sink.droppedLines()
	c := g.runner.confinedBy()
	s.Cgroup, s.CgroupRefused, s.Limits, s.Usage = string(c.version), c.refused, c.limits, c.usage()
	return s
}

// standing is how the unit stands, and the generation in service; nil when none
// is.
func (u *unit) standing() (Status, *generation) {
	u.mu.Lock()
	defer u.mu.Unlock()
	spec := u.spec.Load()
	s := Status{
		ID: u.id, Kind: spec.Kind, Name: spec.Name, Command: spec.Command, Hash: spec.Hash,
		Version: u.described.version, Summary: u.described.summary, Capabilities: u.described.capabilities, Generation: u.described.number,
		State: u.state, Since: u.since, Restarts: u.restarts,
		LastError: u.lastErr, LastErrorAt: u.lastErrAt, RetryAt: u.retryAt,
		Calls: u.meter.calls.Load(), Failures: u.meter.failures.Load(), Busy: time.Duration(u.meter.busy.Load()),
	}
	return s, u.current.Load()
}
