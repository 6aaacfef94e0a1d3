package token

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// State is where a token is on its way.
type State string

// The states of a token.
const (
	StatePending   State = "pending"   // its time has not come
	StateActive    State = "active"    // it can be used
	StateCompleted State = "completed" // no use is left
	StateExpired   State = "expired"
	StateRevoked   State = "revoked"
)

// transitions is the whole state machine: from each state, where a token may
// go. From the last three there is no way out.
var transitions = map[State][]State{
	"":             {StatePending},
	StatePending:   {StateActive, StateExpired, StateRevoked},
	StateActive:    {StateCompleted, StateExpired, StateRevoked},
	StateCompleted: nil,
	StateExpired:   nil,
	StateRevoked:   nil,
}

// States returns all states, in the order of the way.
func States() []State {
	return []State{StatePending, StateActive, StateCompleted, StateExpired, StateRevoked}
}

// CanGo says whether a token may go from one state to the other.
func CanGo(from, to State) bool { return slices.Contains(transitions[from], to) }

// Terminal says that a token in the state stays there.
func (s State) Terminal() bool { return s != "" && len(transitions[s]) == 0 }

// Action is what happened to a token.
type Action string

// What happens to tokens. Those after Delegated change no state.
const (
	Issued    Action = "issued"
	Activated Action = "activated"
	Completed Action = "completed"
	Expired   Action = "expired"
	Revoked   Action = "revoked"
	Delegated Action = "delegated" // a child was issued from it
	Renewed   Action = "renewed"
	Used      Action = "used"
)

// Change is one thing that happened to a token. From and To are equal where the
// state stayed.
type Change struct {
	TokenID  string
	Accessor string
	Action   Action
	At       time.Time
	From, To State
	By, Why  string
}

// move is the one place where a state changes. An illegal transition is an
// error and changes nothing.
func (t *Token) move(to State, action Action, by, why string, at time.Time) (Change, error) {
	if !CanGo(t.State, to) {
		return Change{}, sdk.Errorf(codes.FailedPrecondition, "TOKEN_TRANSITION",
			"token %s is %s and cannot become %s", t.Accessor, t.State, to).
			WithRemedy("a token that has ended stays ended; issue another")
	}
	from := t.State
	t.State, t.Reason = to, why
	c := t.note(action, by, why, at)
	c.From = from
	return c, nil
}

// note makes the change of something that leaves the state as it is.
func (t *Token) note(action Action, by, why string, at time.Time) Change {
	t.Version++
	t.ChangedAt = at.UTC()
	return Change{
		TokenID: t.ID, Accessor: t.Accessor, Action: action, At: t.ChangedAt, From: t.State, To: t.State, By: by, Why: why,
	}
}

const byClock = "clock"

// due says that the time of a pending token has come.
func (t *Token) due(now time.Time) bool {
	return t.State == StatePending && !now.Before(t.NotBefore) && now.Before(t.ExpiresAt)
}

// lapsed says that a token has expired and is not yet in that state.
func (t *Token) lapsed(now time.Time) bool { return !t.State.Terminal() && !now.Before(t.ExpiresAt) }

func (t *Token) activate(at time.Time) (Change, error) {
	return t.move(StateActive, Activated, byClock, "its time has come", at)
}

func (t *Token) expire(at time.Time) (Change, error) {
	return t.move(StateExpired, Expired, byClock, "its life ended at "+t.ExpiresAt.UTC().Format(time.RFC3339), at)
}

// completeIfSpent moves the token to completed when no use is left; why says
// what took the last.
func (t *Token) completeIfSpent(by, why string, at time.Time) ([]Change, error) {
	if t.Remaining() > 0 {
		return nil, nil
	}
	c, err := t.move(StateCompleted, Completed, by, fmt.Sprintf("the last of %d uses: %s", t.MaxUses, why), at)
	return []Change{c}, err
}
