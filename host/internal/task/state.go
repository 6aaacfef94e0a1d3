package task

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// State is where a task is on its way.
type State string

// The states of a task.
const (
	StateBacklog     State = "backlog"           // waits until others of the workspace have ended
	StateReady       State = "ready"             // may be claimed
	StateBlocked     State = "blocked"           // waits for what it depends on
	StateLeased      State = "leased"            // claimed
	StateRunning     State = "running"           // a generator is at it
	StateProposed    State = "proposed"          // there is a patch
	StateVerifying   State = "verifying"         // the patch is being verified
	StateAwaiting    State = "awaiting_approval" // somebody has to decide
	StateApproved    State = "approved"          // the patch may be integrated
	StateIntegrating State = "integrating"       // the patch is being put into the workspace
	StateDone        State = "done"              // its gaps are gone
	StateFailed      State = "failed"            // is tried again when it is due
	StateDead        State = "dead"              // was tried as often as it may be
	StateDenied      State = "denied"            // somebody decided against the patch
	StateCancelled   State = "cancelled"
	StateRolledBack  State = "rolled_back" // the patch was taken out of the workspace again
)

// transitions is the whole state machine: from each state, where a task may go.
// What holds no task falls back to the state it was claimed in.
var transitions = map[State][]State{
	"":               {StateBacklog, StateReady, StateBlocked},
	StateBacklog:     {StateReady, StateBlocked, StateCancelled, StateDone},
	StateReady:       {StateLeased, StateBlocked, StateBacklog, StateCancelled, StateDone},
	StateBlocked:     {StateReady, StateBacklog, StateCancelled, StateDone},
	StateLeased:      {StateRunning, StateProposed, StateReady, StateFailed, StateDead, StateCancelled, StateDone},
	StateRunning:     {StateProposed, StateReady, StateFailed, StateDead, StateCancelled, StateDone},
	StateProposed:    {StateVerifying, StateReady, StateFailed, StateDead, StateDenied, StateCancelled, StateDone},
	StateVerifying:   {StateAwaiting, StateApproved, StateProposed, StateReady, StateDenied, StateFailed, StateDead, StateCancelled, StateDone},
	StateAwaiting:    {StateApproved, StateDenied, StateProposed, StateReady, StateFailed, StateDead, StateCancelled, StateDone},
	StateApproved:    {StateIntegrating, StateAwaiting, StateProposed, StateReady, StateDenied, StateFailed, StateDead, StateCancelled, StateDone},
	StateIntegrating: {StateDone, StateRolledBack, StateApproved, StateAwaiting, StateProposed, StateReady, StateDenied, StateFailed, StateDead},
	StateDone:        {StateRolledBack},
	StateFailed:      {StateLeased, StateReady, StateBlocked, StateDead, StateCancelled, StateDone},
	StateDead:        {StateReady, StateBlocked, StateCancelled, StateDone},
	StateDenied:      {StateReady, StateBlocked, StateCancelled, StateDone},
	StateCancelled:   {StateReady, StateBlocked, StateDone},
	StateRolledBack:  {StateReady, StateBlocked, StateFailed, StateDead, StateCancelled, StateDone},
}

// States returns all states, in the order of the way.
func States() []State {
	return []State{
		StateBacklog, StateReady, StateBlocked, StateLeased, StateRunning, StateProposed, StateVerifying, StateAwaiting,
		StateApproved, StateIntegrating, StateDone, StateFailed, StateDead, StateDenied, StateCancelled, StateRolledBack,
	}
}

// CanGo says whether a task may go from one state to the other.
func CanGo(from, to State) bool { return slices.Contains(transitions[from], to) }

// Held says that somebody holds a task in the state, by a lease.
func (s State) Held() bool { return s.fallback() != "" }

// Closed says that nothing goes on with a task in the state until somebody
// decides so.
func (s State) Closed() bool {
	switch s {
	case StateDone, StateDead, StateDenied, StateCancelled, StateRolledBack:
		return true
	}
	return false
}

// Open says that a task in the state takes a place of the workspace's budget.
func (s State) Open() bool { return s != StateBacklog && !s.Closed() }

// HeldStates returns the states with [State.Held].
func HeldStates() []State { return which(State.Held) }

// OpenStates returns the states with [State.Open].
func OpenStates() []State { return which(State.Open) }

// ClosedStates returns the states with [State.Closed].
func ClosedStates() []State { return which(State.Closed) }

func which(is func(State) bool) []State {
	return slices.DeleteFunc(States(), func(s State) bool { return !is(s) })
}

// fallback is the state that a task returns to when it is held in the state and
// the lease is lost or given back; empty: it is not held in it.
func (s State) fallback() State {
	switch s {
	case StateLeased, StateRunning:
		return StateReady
	case StateVerifying:
		return StateProposed
	case StateIntegrating:
		return StateApproved
	}
	return ""
}

// Stage is a part of the way that is done under one claim.
type Stage string

// The stages.
const (
	StageGenerate  Stage = "generate"
	StageVerify    Stage = "verify"
	StageIntegrate Stage = "integrate"
)

// From returns the states in which tasks wait for the stage.
func (s Stage) From() []State {
	switch s {
	case StageGenerate:
		return []State{StateReady, StateFailed}
	case StageVerify:
		return []State{StateProposed}
	case StageIntegrate:
		return []State{StateApproved}
	}
	return nil
}

// To returns the state that a claim brings a task to.
func (s Stage) To() State {
	switch s {
	case StageGenerate:
		return StateLeased
	case StageVerify:
		return StateVerifying
	case StageIntegrate:
		return StateIntegrating
	}
	return ""
}

// Stages returns all stages.
func Stages() []Stage { return []Stage{StageGenerate, StageVerify, StageIntegrate} }

// Action is what happened to a task: the state that it went to, unless it is one
// of these.
type Action string

// The actions that have names of their own.
const (
	ActionCreated  Action = "created"
	ActionOpened   Action = "opened"   // out of the backlog, or not blocked any more
	ActionClaimed  Action = "claimed"  // for generation
	ActionStarted  Action = "started"  // the generator runs
	ActionLost     Action = "lost"     // the lease ended
	ActionReleased Action = "released" // the lease was given back
	ActionRetried  Action = "retried"
	ActionReturned Action = "returned" // to be worked on again
	ActionPinned   Action = "pinned"
	ActionUnpinned Action = "unpinned"
	ActionRouted   Action = "routed"     // another rule holds for it
	ActionApplied  Action = "integrated" // the patch is in the workspace, which is to be scanned
)

// Change is one thing that happened to a task. From and To are equal where the
// state stayed.
type Change struct {
	TaskID, Workspace string
	Action            Action
	At                time.Time
	From, To          State
	By, Why           string
	Fence             int64
}

// actionOf names a transition that was given no name.
func actionOf(from, to State) Action {
	switch {
	case to == StateReady && (from == StateBacklog || from == StateBlocked):
		return ActionOpened
	case to == StateLeased:
		return ActionClaimed
	case to == StateRunning:
		return ActionStarted
	case to == StateReady:
		return ActionReturned
	}
	return Action(to)
}

// move is the one place where a state changes. It keeps what depends on the state
// in step. An illegal transition is an error and changes nothing.
func (t *Task) move(to State, action Action, by, why string, at time.Time) (Change, error) {
	if !CanGo(t.State, to) {
		return Change{}, t.cannot(to)
	}
	from := t.State
	if action == "" {
		action = actionOf(from, to)
	}
	t.State, t.Before, t.Reason = to, from, why
	if from.Held() && !to.Held() {
		t.Holder, t.LeaseUntil = "", time.Time{}
	}
	if to == StateReady {
		t.DueAt = at.UTC()
	}
	c := t.note(action, by, why, at)
	c.From = from
	return c, nil
}

// note makes the change of something that leaves the state as it is.
func (t *Task) note(action Action, by, why string, at time.Time) Change {
	t.Version++
	t.ChangedAt = at.UTC()
	return Change{TaskID: t.ID, Workspace: t.Workspace, Action: action, At: t.ChangedAt, From: t.State, To: t.State, By: by, Why: why, Fence: t.Fence}
}

// cannot is the error for a transition that there is none of.
func (t *Task) cannot(to State) error {
	var may []string
	for _, s := range transitions[t.State] {
		may = append(may, string(s))
	}
	return sdk.Errorf(codes.FailedPrecondition, ReasonTransition, "task %s is %s and cannot become %s", t.ID, t.State, to).
		WithRemedy("from %s a task can become: %s", t.State, strings.Join(may, ", "))
}

// gapState is the state that the gaps of a task have while it is in the state;
// empty: it does not say.
func (s State) gapState() string {
	switch s {
	case StateBacklog, StateDone:
		return ""
	case StateCancelled:
		return "open"
	case StateReady, StateBlocked, StateFailed, StateDead, StateDenied, StateRolledBack:
		return "ticketed"
	}
	return "in_progress"
}
