package patch

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// State is where a patch is on its way.
type State string

// The states of a patch.
const (
	StateProposed    State = "proposed"
	StateVerifying   State = "verifying"
	StateVerified    State = "verified" // it waits for approval
	StateRejected    State = "rejected" // it did not pass, or cannot be integrated
	StateApproved    State = "approved"
	StateDenied      State = "denied"
	StateIntegrating State = "integrating"
	StateIntegrated  State = "integrated"
	StateRolledBack  State = "rolled_back"
	StateSuperseded  State = "superseded" // another takes its place, or nothing is left of it
)

// transitions is the whole state machine: from each state, where a patch may go.
// verifying goes back to proposed, and integrating to approved, when whoever was
// at it was lost; verified and approved go back when the rules ask for more, and approved when who
// approved it was revoked.
var transitions = map[State][]State{
	"":               {StateProposed},
	StateProposed:    {StateVerifying, StateRejected, StateDenied, StateSuperseded},
	StateVerifying:   {StateProposed, StateVerified, StateRejected, StateDenied, StateSuperseded},
	StateVerified:    {StateProposed, StateVerifying, StateApproved, StateRejected, StateDenied, StateSuperseded},
	StateApproved:    {StateProposed, StateVerified, StateIntegrating, StateRejected, StateDenied, StateSuperseded},
	StateIntegrating: {StateApproved, StateIntegrated, StateRejected},
	StateIntegrated:  {StateRolledBack},
	StateRejected:    nil,
	StateDenied:      nil,
	StateRolledBack:  nil,
	StateSuperseded:  nil,
}

// States returns all states, in the order of the way.
func States() []State {
	return []State{
		StateProposed, StateVerifying, StateVerified, StateRejected, StateApproved, StateDenied, StateIntegrating, StateIntegrated,
		StateRolledBack, StateSuperseded,
	}
}

// CanGo says whether a patch may go from one state to the other.
func CanGo(from, to State) bool { return slices.Contains(transitions[from], to) }

// Terminal says that a patch in the state stays there.
func (s State) Terminal() bool { return s != "" && len(transitions[s]) == 0 }

// Open says that something may still become of a patch in the state, and nobody is
// putting it in.
func (s State) Open() bool { return CanGo(s, StateSuperseded) }

// OpenStates returns the states with [State.Open].
func OpenStates() []State {
	return slices.DeleteFunc(States(), func(s State) bool { return !s.Open() })
}

// Action is what happened to a patch.
type Action string

// What happens to patches. Consented changes no state.
const (
	Proposed    Action = "proposed"
	Verifying   Action = "verifying"
	Verified    Action = "verified"
	Rejected    Action = "rejected"
	Consented   Action = "consented" // one has approved it, and more have to
	Approved    Action = "approved"
	Denied      Action = "denied"
	Integrating Action = "integrating"
	BackedUp    Action = "backed_up" // what it replaces is saved
	Integrated  Action = "integrated"
	Undone      Action = "undone"       // what was integrated of it was taken back
	Lost        Action = "lost"         // whoever verified it is gone
	RollingBack Action = "rolling_back" // it is about to be taken back
	RolledBack  Action = "rolled_back"
	// RollbackRefused follows RollingBack where nothing was taken back.
	RollbackRefused Action = "rollback_refused"
	Superseded      Action = "superseded"
	Tightened       Action = "tightened" // more have to approve it than before
	Withdrawn       Action = "withdrawn" // who approved it was revoked
	Reopened        Action = "reopened"  // it has to be verified again
)

// Change is one thing that happened to a patch. From and To are equal where the
// state stayed.
type Change struct {
	PatchID   string
	Task      string
	Workspace string
	Hash      string
	Token     string // that it was done under
	Action    Action
	At        time.Time
	From, To  State
	By, Why   string
	// Source is where what was put back came from, and Backup the snapshot of what
	// that replaced; of RolledBack, in the audit log.
	Source, Backup string
}

// move is the one place where a state changes. An illegal transition is an error
// and changes nothing.
func (p *Patch) move(to State, action Action, by, why string, at time.Time) (Change, error) {
	if !CanGo(p.State, to) {
		return Change{}, sdk.Errorf(codes.FailedPrecondition, ReasonTransition, "patch %s is %s and cannot become %s", p.ID, p.State, to).
			WithRemedy("%s", p.State.remedy())
	}
	from := p.State
	p.State, p.Reason = to, why
	c := p.note(action, by, why, at)
	c.From = from
	return c, nil
}

// remedy says what can be done about a patch in the state.
func (s State) remedy() string {
	switch s {
	case StateProposed, StateVerifying:
		return "wait until it is verified"
	case StateVerified:
		return "it waits for approval: sop patch approve"
	case StateIntegrated:
		return "it can be taken back: sop patch rollback"
	case StateApproved, StateIntegrating:
		return "wait until it is integrated"
	}
	return "it stays so; the task can have another patch"
}

// note makes the change of something that leaves the state as it is.
func (p *Patch) note(action Action, by, why string, at time.Time) Change {
	p.Version++
	p.ChangedAt = at.UTC()
	return Change{
		PatchID: p.ID, Task: p.Task, Workspace: p.Workspace, Hash: p.Hash, Action: action, At: p.ChangedAt, From: p.State, To: p.State, By: by, Why: why,
	}
}
