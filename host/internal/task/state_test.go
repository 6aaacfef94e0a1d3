package task

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
}

// TestWhatHoldsFallsBack: every state in which a task is held can return to one in
// which it waits for the same stage, can fail, and is left when the task ends.
func TestWhatHoldsFallsBack(t *testing.T) {
	for _, stage := range Stages() {
		if !stage.To().Held() {
			t.Errorf("%s leads to %s, which is not held", stage, stage.To())
		}
		if back := stage.To().fallback(); !slices.Contains(stage.From(), back) {
			t.Errorf("%s falls back to %s", stage, back)
		}
		for _, from := range stage.From() {
			if !CanGo(from, stage.To()) || from.Held() || from.Closed() {
				t.Errorf("%s cannot be claimed for %s", from, stage)
			}
		}
	}
	for _, s := range States() {
		if s.Held() && (!CanGo(s, s.fallback()) || !CanGo(s, StateFailed) || !CanGo(s, StateDead)) {
			t.Errorf("%s cannot be lost or fail", s)
		}
		if s.Held() && s.Closed() || s.Closed() && s.Open() {
			t.Errorf("%s is two things at once", s)
		}
		if !s.Closed() && s != StateIntegrating && (!CanGo(s, StateCancelled) || !CanGo(s, StateDone)) {
			t.Errorf("%s cannot be ended", s)
		}
	}
}

// TestStateMachine makes random transitions and checks what must always hold:
// only what the table says, a refused one changes nothing, whoever leaves the
// held states has no lease, and every change continues the one before.
func TestStateMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task := &Task{ID: "t", MaxAttempts: 3}
		last := Change{}
		for i, to := range rapid.SliceOf(rapid.SampledFrom(append(States(), "", "nonsense"))).Draw(t, "states") {
			if task.State.Held() { // as a claim would have left it
				task.Holder, task.LeaseUntil = "me", time.Unix(1000, 0)
			}
			was := *task
			c, err := task.move(to, "", "me", "why "+string(to), time.Unix(int64(i), 0))
			if legal := slices.Contains(transitions[was.State], to); legal != (err == nil) {
				t.Fatalf("%q to %q: %v", was.State, to, err)
			}
			if err != nil {
				e := sdk.FromError(err)
				if e.Code != codes.FailedPrecondition || e.Reason != ReasonTransition || e.Remedy == "" {
					t.Fatalf("error %+v", e)
				}
				if task.State != was.State || task.Version != was.Version || task.Holder != was.Holder {
					t.Fatalf("a refused transition changed %+v to %+v", was, *task)
				}
				continue
			}
			if c.From != was.State || c.To != to || c.From != last.To || c.Action == "" || task.Version != was.Version+1 || task.Before != was.State {
				t.Fatalf("change %+v of %+v after %+v", c, was, last)
			}
			if !to.Held() && (task.Holder != "" || !task.LeaseUntil.IsZero()) {
				t.Fatalf("%s is held by %s", to, task.Holder)
			}
			if to == StateReady && task.DueAt.After(c.At) {
				t.Fatalf("ready, and due at %s", task.DueAt)
			}
			last = c
		}
	})
}

func TestPriority(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	old := &Task{Base: 200, Since: now.Add(-101 * pointTime)}
	young := &Task{Base: 300, Since: now}
	if old.Priority(now) != 301 || young.Priority(now) != 300 || old.Rank() <= young.Rank() {
		t.Errorf("%d at rank %d, %d at rank %d", old.Priority(now), old.Rank(), young.Priority(now), young.Rank())
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{First: 10 * time.Second, Most: time.Minute}
	for attempts, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 4: time.Minute, 1000: time.Minute} {
		for range 20 {
			if got := b.after(attempts); got < want-want/5 || got > want+want/5 {
				t.Errorf("attempt %d waits %s, not about %s", attempts, got, want)
			}
		}
	}
}

// What more packages import reaches further; of what nobody knows it, the place
// counts.
func TestReach(t *testing.T) {
	for name, c := range map[string]struct {
		gaps, importers int
		known           bool
		target          string
		want            int
	}{
		"one gap, nobody imports it":   {1, 0, true, "a/b.go", 0},
		"one importer":                 {1, 1, true, "a/b.go", 1},
		"eight importers":              {1, 8, true, "deep/er/still/b.go", 4},
		"very many":                    {1, 1000, true, "a/b.go", mostReach},
		"many gaps":                    {16, 0, true, "a/b.go", 4},
		"both":                         {4, 2, true, "a/b.go", 4},
		"not Go, near to the root":     {1, 0, false, "docs/a.md", 1},
		"not Go, far from the root":    {1, 0, false, "docs/a/b.md", 0},
		"importers of what is not Go":  {1, 8, false, "docs/a/b.md", 0},
		"as many gaps as a task takes": {20, 1000, true, "a/b.go", mostReach},
	} {
		if got := reach(c.gaps, c.target, c.importers, c.known); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	gaps := []Gap{{ID: "1", Path: "a/b.go", Rank: 2}}
	often, never := new(Task), new(Task)
	often.describe(gaps, map[string]int{"a": 8})
	never.describe(gaps, map[string]int{"a": 0})
	if often.Base-never.Base != 4*reachPoints {
		t.Errorf("what eight import has priority %d, what nobody does %d", often.Base, never.Base)
	}
}
