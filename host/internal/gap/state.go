package gap

import (
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// State is where a gap is on its way.
type State string

// The states of a gap.
const (
	StateOpen         State = "open"
	StateAcknowledged State = "acknowledged" // somebody has seen it
	StateTicketed     State = "ticketed"     // a task was made from it
	StateInProgress   State = "in_progress"  // a run is at it
	StateVerifying    State = "verifying"    // a patch was integrated; the next scan decides
	StateResolved     State = "resolved"
	StateSuppressed   State = "suppressed" // tolerated: see [Suppression]
)

// transitions is the whole state machine: from each state, where a gap may go.
var transitions = map[State][]State{
	"":                {StateOpen},
	StateOpen:         {StateAcknowledged, StateTicketed, StateSuppressed, StateResolved},
	StateAcknowledged: {StateOpen, StateTicketed, StateSuppressed, StateResolved},
	StateTicketed:     {StateOpen, StateInProgress, StateSuppressed, StateResolved},
	StateInProgress:   {StateOpen, StateTicketed, StateVerifying, StateResolved},
	StateVerifying:    {StateOpen, StateTicketed, StateResolved},
	// A gap that returns under a suppression that still holds is suppressed again.
	StateResolved:   {StateOpen, StateSuppressed},
	StateSuppressed: {StateOpen, StateResolved, StateSuppressed}, // again: another reason or time
}

// States returns all states, in the order of the way.
func States() []State {
	return []State{
		StateOpen, StateAcknowledged, StateTicketed, StateInProgress,
		StateVerifying, StateResolved, StateSuppressed,
	}
}

// CanGo says whether a gap may go from one state to the other.
func CanGo(from, to State) bool { return slices.Contains(transitions[from], to) }

// move is the one place where a state changes. It keeps what depends on the
// state in step and returns the entry for the history. An illegal transition is
// an error and changes nothing.
func (g *Gap) move(to State, by, why string, at time.Time) (Change, error) {
	if !CanGo(g.State, to) {
		return Change{}, sdk.Errorf(codes.FailedPrecondition, "GAP_TRANSITION",
			"gap %s is %s and cannot become %s", g.ID, g.State, to).
			WithRemedy("from %s a gap can become: %s", g.State, join(transitions[g.State]))
	}
	c := Change{GapID: g.ID, At: at.UTC(), From: g.State, To: to, By: by, Why: why}
	g.State = to
	if to != StateResolved {
		g.ResolvedAt, g.Resolution = nil, ""
	}
	if to != StateResolved && to != StateSuppressed {
		g.Suppression = nil
	}
	return c, nil
}

// resolve moves the gap to resolved.
func (g *Gap) resolve(how Resolution, by, why string, at time.Time) (Change, error) {
	c, err := g.move(StateResolved, by, why, at)
	if err != nil {
		return c, err
	}
	g.ResolvedAt, g.Resolution = &c.At, how
	return c, nil
}

// suppress moves the gap to suppressed. The content is the one it has now.
func (g *Gap) suppress(s Suppression, at time.Time) (Change, error) {
	c, err := g.move(StateSuppressed, s.By, s.Reason, at)
	if err != nil {
		return c, err
	}
	s.ContentHash = g.contentHash()
	g.Suppression = &s
	return c, nil
}

// lapse says why the suppression of g no longer holds at a time and for a
// content; empty: it holds.
func (g *Gap) lapse(content string, at time.Time) string {
	switch s := g.Suppression; {
	case s == nil:
		return "it is not suppressed"
	case s.ContentHash != content:
		return "the content it was suppressed for has changed"
	case s.Until != nil && !at.Before(*s.Until):
		return "its suppression ended at " + s.Until.UTC().Format(time.RFC3339)
	}
	return ""
}

func join(states []State) string {
	out := ""
	for i, s := range states {
		if i > 0 {
			out += ", "
		}
		out += string(s)
	}
	return out
}
