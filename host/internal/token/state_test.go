package token

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/sop-host/sop/sdk"
)

func TestEveryStateIsReachable(t *testing.T) {
	reached := map[State]bool{"": true}
	for queue := []State{""}; len(queue) > 0; queue = queue[1:] {
		for _, to := range transitions[queue[0]] {
			if !reached[to] {
				reached[to] = true
				queue = append(queue, to)
			}
		}
	}
	if len(reached) != len(States())+1 || len(transitions) != len(reached) {
		t.Errorf("reached %v of %v", reached, transitions)
	}
	for _, s := range []State{StateCompleted, StateExpired, StateRevoked} {
		if !s.Terminal() {
			t.Errorf("%s can be left", s)
		}
	}
}

// TestStateMachine makes random transitions and checks what must always hold:
// only what the table says, nothing leaves a terminal state, its reason stays,
// and every transition makes a change that continues the one before.
func TestStateMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tok := &Token{ID: "t", Accessor: "a", MaxUses: 3, ExpiresAt: time.Unix(1000, 0)}
		var history []Change
		for i, to := range rapid.SliceOf(rapid.SampledFrom(append(States(), "", "nonsense"))).Draw(t, "states") {
			was := *tok
			c, err := tok.move(to, Issued, "me", "why "+string(to), time.Unix(int64(i), 0))
			if legal := slices.Contains(transitions[was.State], to); legal != (err == nil) {
				t.Fatalf("%s to %s: %v", was.State, to, err)
			}
			if err != nil {
				e := sdk.FromError(err)
				if e.Code != codes.FailedPrecondition || e.Reason != "TOKEN_TRANSITION" || e.Remedy == "" {
					t.Fatalf("error %+v", e)
				}
				if tok.State != was.State || tok.Reason != was.Reason || tok.Version != was.Version {
					t.Fatalf("a refused transition changed %+v to %+v", was, *tok)
				}
				continue
			}
			history = append(history, c)
			if c.From != was.State || c.To != to || tok.State != to || tok.Reason != c.Why || tok.Version != was.Version+1 {
				t.Fatalf("change %+v of %+v", c, was)
			}
		}
		for i := 1; i < len(history); i++ {
			if history[i].From != history[i-1].To {
				t.Fatalf("a transition is missing between %+v and %+v", history[i-1], history[i])
			}
		}
	})
}
