package protocol

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// problem says what is not as it should be, or nothing.
func (p *peer) problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.want == Inactive || p.state != StateFailed || p.err == nil {
		return ""
	}
	return fmt.Sprintf("protocol %s is not in service: %s", p.name, p.err.Message)
}

// Status is how a protocol stands, at one moment.
type Status struct {
	Name       string
	State      State
	Mode       Mode // in force, as the host has it
	Wanted     Mode
	Since      time.Time
	By, Why    string // who wanted it so
	Activation Activation
	DependsOn  []string
	OnCall     bool       // it is not in service, and the next call takes it into it
	Error      *sdk.Error // why it is not in service; nil: nothing is wrong
	InFlight   int
	Waiting    int
	Calls      int64
	Failures   int64 // of calls that were let in
	Refused    int64 // calls that were not
	LastCall   time.Time
	Tested     bool // the generation in service has passed the self-test
	HasTest    bool

	// As the plugin has it; absent where it does not answer.
	Detail     string
	Operations []string
	Counters   map[string]int64
}

func (s State) serves() bool { return s == StateActive || s == StatePassive }

// Unusable says why a protocol cannot be called now; empty: it can, or will be
// started by the call.
func (st *Status) Unusable() string {
	switch {
	case st.State.serves() || st.OnCall:
		return ""
	case st.Error != nil:
		return fmt.Sprintf("it is %s: %s", st.State, st.Error.Message)
	case st.State == StateInactive:
		return fmt.Sprintf("it is %s: sop protocol activate %s", st.State, st.Name)
	}
	return fmt.Sprintf("it is %s", st.State)
}

// status returns how the peer stands; ask: what its plugin says, too.
func (p *peer) status(ctx context.Context, ask bool) *Status {
	set := p.set.Load()
	in, waiting := p.gate.counts()
	generation := p.service.opt.Generation(p.name)
	p.mu.Lock()
	st := &Status{
		Name: p.name, State: p.state, Mode: Inactive, Wanted: p.want, Since: p.since, By: p.by, Why: p.why, Activation: set.Activation,
		DependsOn: slices.Clone(set.DependsOn), Error: p.err, InFlight: in, Waiting: waiting, Calls: p.calls.Load(), Failures: p.failures.Load(),
		Refused: p.denied.Load(), HasTest: set.SelfTest != nil, Tested: set.SelfTest != nil && p.passed[generation],
	}
	st.OnCall = set.Activation == OnDemand && !p.manual && generation != 0 && !st.State.serves() && st.State != StateFailed
	p.mu.Unlock()
	switch st.State {
	case StateActive:
		st.Mode = Active
	case StatePassive:
		st.Mode = Passive
	}
	if last := p.lastCall.Load(); last != 0 {
		st.LastCall = time.Unix(0, last)
	}
	if !ask || generation == 0 {
		return st
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	resp, err := p.client.Status(ctx, &pluginv1.StatusRequest{})
	if err != nil {
		st.Detail = "the plugin does not say: " + sdk.FromError(err).Message
		return st
	}
	st.Detail, st.Operations, st.Counters = resp.GetDetail(), resp.GetOperations(), maps.Clone(resp.GetCounters())
	return st
}
