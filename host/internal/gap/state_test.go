package gap

import (
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/sop-host/sop/sdk"
)

func TestEveryStateIsReachableAndCanBeLeft(t *testing.T) {
	reached := map[State]bool{StateOpen: true}
	for queue := []State{StateOpen}; len(queue) > 0; queue = queue[1:] {
		for _, to := range transitions[queue[0]] {
			if !reached[to] {
				reached[to] = true
				queue = append(queue, to)
			}
		}
	}
	for _, s := range States() {
		if !reached[s] {
			t.Errorf("%s cannot be reached", s)
		}
		if s != StateResolved && !CanGo(s, StateResolved) {
			t.Errorf("a %s gap cannot be resolved when a scan proves it gone", s)
		}
		if s != StateOpen && !CanGo(s, StateOpen) {
			t.Errorf("a %s gap cannot be opened again", s)
		}
	}
	if len(transitions) != len(States())+1 {
		t.Error("the table has other states than States")
	}
}

// TestStateMachine makes random transitions and checks what must always hold.
func TestStateMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &Gap{ID: "g", Keys: Keys{Snippet: 7}}
		at := time.Unix(0, 0)
		if _, err := g.move(StateOpen, "scan", "found", at); err != nil {
			t.Fatal(err)
		}
		for _, to := range rapid.SliceOf(rapid.SampledFrom(append(States(), "", "nonsense"))).Draw(t, "states") {
			at = at.Add(time.Second)
			was := *g
			var c Change
			var err error
			switch to {
			case StateResolved:
				c, err = g.resolve(Fixed, "scan", "gone", at)
			case StateSuppressed:
				c, err = g.suppress(Suppression{Reason: "r", By: "me"}, at)
			default:
				c, err = g.move(to, "me", "why", at)
			}
			if legal := slices.Contains(transitions[was.State], to); legal != (err == nil) {
				t.Fatalf("%s to %s: %v", was.State, to, err)
			}
			if err != nil {
				var e *sdk.Error
				if !errors.As(err, &e) || e.Code != codes.FailedPrecondition || e.Reason != "GAP_TRANSITION" || e.Remedy == "" {
					t.Fatalf("error %+v", err)
				}
				if g.State != was.State || g.Suppression != was.Suppression || g.ResolvedAt != was.ResolvedAt {
					t.Fatalf("a refused transition changed %+v to %+v", was, *g)
				}
				continue
			}
			if c.From != was.State || c.To != to || g.State != to || !c.At.Equal(at) {
				t.Fatalf("change %+v of %+v", c, was)
			}
			if (g.State == StateResolved) != (g.ResolvedAt != nil) || (g.ResolvedAt != nil) != (g.Resolution != "") {
				t.Fatalf("resolution out of step: %+v", g)
			}
			if g.State == StateSuppressed && g.lapse(g.contentHash(), at) != "" || g.State != StateSuppressed && g.State != StateResolved && g.Suppression != nil {
				t.Fatalf("suppression out of step: %+v", g)
			}
		}
	})
}
