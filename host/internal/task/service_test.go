package task_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/store"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk"
)

// bench is a service on a store in memory, with a clock that the test moves.
type bench struct {
	*task.Service
	db *store.DB
	mu sync.Mutex
	at time.Time
	// told is what was published.
	told []task.Changed
	up   map[string]bool // protocols
	// awaited is the task whose becoming ready is told by ready.
	awaited string
	ready   chan struct{}
}

func (b *bench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = b.at.Add(d)
}

// Publish implements [task.Publisher].
func (b *bench) Publish(e any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := e.(task.Changed)
	b.told = append(b.told, changed)
	for _, t := range changed.Tasks {
		if t.ID == b.awaited && t.State == task.StateReady {
			close(b.ready)
			b.awaited = ""
		}
	}
}

func newBench(t testing.TB, settings task.Settings) *bench {
	t.Helper()
	db, err := store.OpenMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{db: db, at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), up: make(map[string]bool)}
	b.Service = task.NewService(db.Tasks(), task.Options{
		Settings: settings, Publisher: b, Now: b.now, Unavailable: b.unavailable,
		Protocols: func() []string { return []string{"arp", "scp"} },
	})
	return b
}

func (b *bench) stand(protocol string, up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up[protocol] = up
}

// opened returns a channel that is closed when a task becomes ready.
func (b *bench) opened(id string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.awaited, b.ready = id, make(chan struct{})
	return b.ready
}

func (b *bench) unavailable(protocol string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.up[protocol] {
		return ""
	}
	return "it is inactive"
}

func (b *bench) make(t testing.TB, change func(*task.New)) *task.Task {
	t.Helper()
	n := task.New{Kind: task.KindManual, Title: "do it", Workspace: "w", By: "me"}
	if change != nil {
		change(&n)
	}
	made, err := b.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (b *bench) claim(t testing.TB, stage task.Stage, by, id string) *task.Task {
	t.Helper()
	got, err := b.Claim(t.Context(), task.ClaimRequest{Stage: stage, By: by, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (b *bench) advance(t testing.TB, on *task.Task, to task.State) *task.Task {
	t.Helper()
	got, err := b.Advance(t.Context(), on.Hold(), task.Step{To: to, Why: "so it goes"})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return sdk.FromError(err).Reason
}

func TestTheWholeWay(t *testing.T) {
	b := newBench(t, task.Settings{})
	made := b.make(t, nil)
	if made.State != task.StateReady || made.Fence != 0 {
		t.Fatalf("made %+v", made)
	}
	got := b.claim(t, task.StageGenerate, "agent", "")
	if got == nil || got.ID != made.ID || got.State != task.StateLeased || got.Fence != 1 || got.Attempts != 1 || got.Holder != "agent" {
		t.Fatalf("claimed %+v", got)
	}
	if other := b.claim(t, task.StageGenerate, "other", ""); other != nil {
		t.Fatalf("claimed twice: %+v", other)
	}
	got = b.advance(t, got, task.StateRunning)
	got, err := b.Advance(t.Context(), got.Hold(), task.Step{To: task.StateProposed, Patch: "p1"})
	if err != nil || got.Holder != "" || got.Patch != "p1" {
		t.Fatalf("%+v, %v", got, err)
	}
	got = b.claim(t, task.StageVerify, task.HostClaimant, made.ID)
	got = b.advance(t, got, task.StateAwaiting)
	if _, err := b.Move(t.Context(), got.ID, task.StateAwaiting, "boss", task.Step{To: task.StateApproved}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Move(t.Context(), got.ID, task.StateAwaiting, "boss", task.Step{To: task.StateDenied}); reason(err) != task.ReasonTransition {
		t.Fatalf("decided twice: %v", err)
	}
	got = b.claim(t, task.StageIntegrate, task.HostClaimant, "")
	if _, err := b.Cancel(t.Context(), got.ID, "me", "no more"); reason(err) != task.ReasonTransition {
		t.Fatalf("cancelled while it is integrated: %v", err)
	}
	if got, err = b.Integrated(t.Context(), got.Hold()); err != nil {
		t.Fatal(err)
	}
	got = b.advance(t, got, task.StateDone)
	full, err := b.Get(t.Context(), got.ID)
	if err != nil {
		t.Fatal(err)
	}
	var way []task.Action
	for _, c := range full.History {
		way = append(way, c.Action)
	}
	want := []task.Action{"created", "claimed", "started", "proposed", "verifying", "awaiting_approval", "approved", "integrating", "integrated", "done"}
	if !slices.Equal(way, want) || len(b.told) != len(want) || full.Fence != 3 {
		t.Errorf("history %v, told %d times, fence %d", way, len(b.told), full.Fence)
	}
}

func TestAStaleFenceIsRefused(t *testing.T) {
	b := newBench(t, task.Settings{Lease: time.Minute})
	b.make(t, nil)
	first := b.claim(t, task.StageGenerate, "a", "")
	b.pass(time.Minute) // the lease ends; the sweeper has not been
	for name, do := range map[string]func() error{
		"heartbeat": func() error { _, err := b.Heartbeat(t.Context(), first.Hold()); return err },
		"advance": func() error {
			_, err := b.Advance(t.Context(), first.Hold(), task.Step{To: task.StateProposed})
			return err
		},
		"fail":    func() error { _, err := b.Fail(t.Context(), first.Hold(), task.Failure{Why: "x"}); return err },
		"release": func() error { _, err := b.Release(t.Context(), first.Hold(), "x"); return err },
	} {
		if err := do(); reason(err) != task.ReasonFence {
			t.Errorf("%s after the lease: %v", name, err)
		}
	}
	if n, err := b.Sweep(t.Context()); n != 1 || err != nil {
		t.Fatalf("swept %d, %v", n, err)
	}
	second := b.claim(t, task.StageGenerate, "a", "") // the same agent, anew
	if second == nil || second.Fence != 2 {
		t.Fatalf("claimed %+v", second)
	}
	if _, err := b.Advance(t.Context(), first.Hold(), task.Step{To: task.StateProposed}); reason(err) != task.ReasonFence {
		t.Errorf("under the fence before: %v", err)
	}
	hold := second.Hold()
	hold.By = "b"
	if _, err := b.Advance(t.Context(), hold, task.Step{To: task.StateProposed}); reason(err) != task.ReasonFence {
		t.Errorf("of another: %v", err)
	}
	b.advance(t, second, task.StateProposed)
}

func TestHeartbeat(t *testing.T) {
	b := newBench(t, task.Settings{Lease: time.Minute})
	made := b.make(t, nil)
	got := b.claim(t, task.StageGenerate, "a", "")
	for range 5 {
		b.pass(50 * time.Second)
		beat, err := b.Heartbeat(t.Context(), got.Hold())
		if err != nil || beat.Stop != "" || !beat.Until.Equal(b.now().Add(time.Minute)) {
			t.Fatalf("%+v, %v", beat, err)
		}
	}
	if _, err := b.Cancel(t.Context(), made.ID, "boss", "not wanted"); err != nil {
		t.Fatal(err)
	}
	beat, err := b.Heartbeat(t.Context(), got.Hold())
	if err != nil || beat.Stop == "" {
		t.Errorf("after it was cancelled: %+v, %v", beat, err)
	}
	if _, err := b.Advance(t.Context(), got.Hold(), task.Step{To: task.StateProposed}); reason(err) != task.ReasonFence {
		t.Errorf("a result after it was cancelled: %v", err)
	}
}

func TestFailuresEnd(t *testing.T) {
	b := newBench(t, task.Settings{Attempts: 3, Backoff: task.Backoff{First: 10 * time.Second, Most: time.Minute}})
	made := b.make(t, nil)
	for attempt := 1; attempt <= 3; attempt++ {
		got := b.claim(t, task.StageGenerate, "a", "")
		if got == nil || got.Attempts != attempt {
			t.Fatalf("attempt %d: %+v", attempt, got)
		}
		got, err := b.Fail(t.Context(), got.Hold(), task.Failure{Why: "it does not build"})
		if err != nil {
			t.Fatal(err)
		}
		if attempt == 3 {
			if got.State != task.StateDead {
				t.Fatalf("%+v", got)
			}
			break
		}
		wait := got.DueAt.Sub(b.now())
		if got.State != task.StateFailed || wait < 8*time.Second || wait > 24*time.Second || got.Feedback != "it does not build" {
			t.Fatalf("waits %s: %+v", wait, got)
		}
		if early := b.claim(t, task.StageGenerate, "a", ""); early != nil {
			t.Fatalf("claimed before it is due: %+v", early)
		}
		if _, err := b.Claim(t.Context(), task.ClaimRequest{Stage: task.StageGenerate, By: "a", ID: made.ID}); reason(err) != task.ReasonNotDue {
			t.Fatalf("by its id: %v", err)
		}
		due, some, err := b.NextDue(t.Context(), task.StageGenerate)
		if err != nil || !some || !due.Equal(got.DueAt) {
			t.Fatalf("due %s %t, %v", due, some, err)
		}
		b.pass(wait)
	}
	again, err := b.Retry(t.Context(), made.ID[:13], "me", "mended")
	if err != nil || again.State != task.StateReady || again.Attempts != 0 {
		t.Errorf("%+v, %v", again, err)
	}
	got := b.claim(t, task.StageGenerate, "a", made.ID)
	if got, err = b.Fail(t.Context(), got.Hold(), task.Failure{Why: "hopeless", Final: true}); err != nil || got.State != task.StateDead {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReleaseCostsNoAttempt(t *testing.T) {
	b := newBench(t, task.Settings{Attempts: 1})
	b.make(t, nil)
	for range 3 {
		got := b.claim(t, task.StageGenerate, "a", "")
		if got, err := b.Release(t.Context(), got.Hold(), "not now"); err != nil || got.State != task.StateReady || got.Attempts != 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

func TestRecover(t *testing.T) {
	b := newBench(t, task.Settings{})
	one, two := b.make(t, nil), b.make(t, nil)
	b.claim(t, task.StageGenerate, task.HostClaimant, one.ID)
	b.claim(t, task.StageGenerate, "agent", two.ID)
	if n, err := b.Recover(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for id, want := range map[string]task.State{one.ID: task.StateReady, two.ID: task.StateLeased} {
		if got, err := b.Get(t.Context(), id); err != nil || got.State != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// What a revoked agent holds can be claimed by others, and cost no attempt.
func TestTakeBack(t *testing.T) {
	b := newBench(t, task.Settings{})
	one, two, three := b.make(t, nil), b.make(t, nil), b.make(t, nil)
	held := b.claim(t, task.StageGenerate, "gone", one.ID)
	b.claim(t, task.StageGenerate, "gone", two.ID)
	b.claim(t, task.StageGenerate, "agent", three.ID)
	if n, err := b.TakeBack(t.Context(), "gone", "operator", "agent gone was revoked: left"); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for id, want := range map[string]task.State{one.ID: task.StateReady, two.ID: task.StateReady, three.ID: task.StateLeased} {
		if got, err := b.Get(t.Context(), id); err != nil || got.State != want || (got.State == task.StateReady && (got.Attempts != 0 || got.Reason != "agent gone was revoked: left")) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := b.Heartbeat(t.Context(), held.Hold()); err == nil {
		t.Error("who held it holds it still")
	}
	if n, err := b.TakeBack(t.Context(), "gone", "operator", "again"); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A host that ends at a task costs it no attempt, unless that goes on and on.
func TestInterruptions(t *testing.T) {
	b := newBench(t, task.Settings{})
	made := b.make(t, nil)
	for n := 1; n <= 10; n++ {
		b.claim(t, task.StageGenerate, task.HostClaimant, made.ID)
		if _, err := b.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := b.Get(t.Context(), made.ID)
		if err != nil {
			t.Fatal(err)
		}
		if n < 10 && (got.State != task.StateReady || got.Attempts != 0 || got.Interruptions != n) {
			t.Fatalf("after %d: %+v", n, got)
		}
		if n == 10 && (got.State != task.StateDead || !strings.Contains(got.Reason, "ended 10 times")) {
			t.Errorf("%s: %s", got.State, got.Reason)
		}
	}
	if got, err := b.Retry(t.Context(), made.ID, "operator", "mended"); err != nil || got.State != task.StateReady || got.Interruptions != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDependencies(t *testing.T) {
	b := newBench(t, task.Settings{})
	first := b.make(t, nil)
	second := b.make(t, func(n *task.New) { n.DependsOn, n.Needs = []string{first.ID}, []string{"scp"} })
	if second.State != task.StateBlocked {
		t.Fatalf("%+v", second)
	}
	got := b.claim(t, task.StageGenerate, "a", first.ID)
	b.advance(t, got, task.StateProposed)
	got = b.claim(t, task.StageVerify, "a", "")
	b.advance(t, got, task.StateApproved)
	got = b.claim(t, task.StageIntegrate, "a", "")
	b.advance(t, got, task.StateDone)
	if got, err := b.Get(t.Context(), second.ID); err != nil || got.State != task.StateBlocked {
		t.Fatalf("without its protocol: %+v, %v", got, err)
	}
	b.up["scp"] = true
	if n, err := b.Sweep(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if got, err := b.Get(t.Context(), second.ID); err != nil || got.State != task.StateReady {
		t.Errorf("%+v, %v", got, err)
	}
}

// A task whose protocol has gone away since it was opened is not given out: it
// waits, and no attempt was made. What was generated already goes on.
func TestClaimLooksForProtocols(t *testing.T) {
	b := newBench(t, task.Settings{})
	b.up["scp"] = true
	needy := b.make(t, func(n *task.New) { n.Needs = []string{"scp"} })
	other := b.make(t, nil)
	b.up["scp"] = false
	_, err := b.Claim(t.Context(), task.ClaimRequest{Stage: task.StageGenerate, By: "a", ID: needy.ID})
	if e := sdk.FromError(err); e.Reason != task.ReasonBusy || !e.Retryable || !strings.Contains(e.Message, "waits for the protocol scp") {
		t.Fatalf("%v", err)
	}
	if got := b.claim(t, task.StageGenerate, "a", ""); got.ID != other.ID {
		t.Fatalf("got %s", got.Title)
	}
	if got, err := b.Claim(t.Context(), task.ClaimRequest{Stage: task.StageGenerate, By: "a"}); got != nil || err != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	got, err := b.Get(t.Context(), needy.ID)
	if err != nil || got.State != task.StateBlocked || got.Attempts != 0 || got.Holder != "" || !got.LeaseUntil.IsZero() || got.Reason != "waits for the protocol scp" {
		t.Fatalf("%+v, %v", got, err)
	}
	b.up["scp"] = true
	if n, err := b.Sweep(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	got = b.claim(t, task.StageGenerate, "a", "")
	if got.ID != needy.ID || got.Attempts != 1 {
		t.Fatalf("%+v", got)
	}
	b.advance(t, got, task.StateProposed)
	b.up["scp"] = false
	b.claim(t, task.StageVerify, "a", needy.ID)
}

// What a task waits for is told as it stands, and what changes is seen at once.
func TestWaitsFor(t *testing.T) {
	b := newBench(t, task.Settings{})
	first := b.make(t, nil)
	waits := b.make(t, func(n *task.New) { n.DependsOn, n.Needs = []string{first.ID}, []string{"scp", "arp"} })
	want := "waits for " + first.ID + " to be done; waits for the protocol arp; waits for the protocol scp"
	if waits.State != task.StateBlocked || waits.Reason != want {
		t.Fatalf("%s: %s", waits.State, waits.Reason)
	}
	b.up["arp"] = true
	told, err := b.WaitsFor(t.Context(), waits)
	if err != nil || !slices.Equal(told, []string{"task " + first.ID + " to be done, which is ready: do it", "protocol scp: it is inactive"}) {
		t.Errorf("%q, %v", told, err)
	}
	if told, err := b.WaitsFor(t.Context(), first); err != nil || told != nil {
		t.Errorf("of a ready task: %q, %v", told, err)
	}
}

// The sweeper looks at what is blocked when it is told to, and not only now and then.
func TestLookAgain(t *testing.T) {
	b := newBench(t, task.Settings{})
	waits := b.make(t, func(n *task.New) { n.Needs = []string{"scp"} })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Run(ctx, func(err error) { t.Error(err) })
	}()
	defer func() { cancel(); <-ended }()
	opened := b.opened(waits.ID)
	b.stand("scp", true)
	b.LookAgain()
	<-opened
}

// A plugin is given what waits and what has ended without success, and nothing that
// somebody is at or has decided against.
func TestGive(t *testing.T) {
	b := newBench(t, task.Settings{Attempts: 1})
	give := func(id string, want bool) *task.Task {
		t.Helper()
		given, err := b.Give(t.Context(), id, "agent", "sop:hook.x", "hook x")
		if err != nil || given != want {
			t.Fatalf("given %v, %v", given, err)
		}
		got, err := b.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if want && (got.Sandbox != "agent" || b.Route(got).Sandbox != "agent" || got.History[len(got.History)-1].By != "sop:hook.x") {
			t.Errorf("%+v", got)
		}
		return got
	}
	waiting := b.make(t, nil)
	if got := give(waiting.ID, true); got.State != task.StateReady {
		t.Errorf("%+v", got)
	}
	held := b.claim(t, task.StageGenerate, "host", waiting.ID)
	if got := give(waiting.ID, false); got.State != task.StateLeased || got.Holder != "host" {
		t.Errorf("%+v", got)
	}
	if _, err := b.Fail(t.Context(), held.Hold(), task.Failure{Why: "no", Final: true}); err != nil {
		t.Fatal(err)
	}
	if got := give(waiting.ID, true); got.State != task.StateReady || got.Attempts != 0 {
		t.Errorf("%+v", got)
	}
	backlog := b.make(t, func(n *task.New) { n.Backlog = true })
	if got := give(backlog.ID, true); got.State != task.StateBacklog {
		t.Errorf("%+v", got)
	}
	cancelled := b.make(t, nil)
	if _, err := b.Cancel(t.Context(), cancelled.ID, "me", ""); err != nil {
		t.Fatal(err)
	}
	give(cancelled.ID, false)
}

// What a hook makes of a gap waits for room, and is opened although no rule is for it.
func TestBacklogOfSomebody(t *testing.T) {
	b := newBench(t, task.Settings{Open: 1})
	ids := b.gaps(t, "docs.x", "a", gap.SeverityHigh, 2)
	for _, id := range ids {
		made := b.make(t, func(n *task.New) {
			n.Kind, n.Title, n.Gaps, n.Backlog, n.Spec.Sandbox = task.KindGap, "", []string{id}, true, "agent"
		})
		if made.State != task.StateBacklog || !strings.Contains(made.Title, "no comment") {
			t.Errorf("%+v", made)
		}
	}
	if done := b.plan(t); done.Opened != 1 {
		t.Errorf("%+v", done)
	}
	if ready := b.list(t, task.StateReady); len(ready) != 1 || ready[0].Sandbox != "agent" {
		t.Errorf("%+v", ready)
	}
}

func TestUnknownProtocols(t *testing.T) {
	b := newBench(t, task.Settings{})
	_, err := b.Create(t.Context(), task.New{Kind: task.KindManual, Title: "x", Workspace: "w", By: "me", Needs: []string{"scpp"}})
	if e := sdk.FromError(err); err == nil || e.Code != codes.InvalidArgument || !strings.Contains(e.Remedy, "arp, scp") {
		t.Errorf("%v", err)
	}
}

// Neither retrying nor pinning gets a task past what it needs.
func TestNoWayAroundWhatIsNeeded(t *testing.T) {
	b := newBench(t, task.Settings{Attempts: 1})
	b.up["scp"] = true
	made := b.make(t, func(n *task.New) { n.Needs = []string{"scp"} })
	got := b.claim(t, task.StageGenerate, "a", made.ID)
	if _, err := b.Fail(t.Context(), got.Hold(), task.Failure{Why: "no", Final: true}); err != nil {
		t.Fatal(err)
	}
	b.up["scp"] = false
	if got, err := b.Retry(t.Context(), made.ID, "me", ""); err != nil || got.State != task.StateBlocked || !strings.Contains(got.Reason, "scp") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOrderAndLimits(t *testing.T) {
	b := newBench(t, task.Settings{PerWorkspace: 2, PerSandbox: 1})
	route := func(n *task.New) { n.Spec.Sandbox = "scaffold" }
	old := b.make(t, route)
	b.pass(time.Hour)
	b.make(t, route)
	pinned := b.make(t, nil)
	if _, err := b.Pin(t.Context(), pinned.ID, true, "me", ""); err != nil {
		t.Fatal(err)
	}
	if got := b.claim(t, task.StageGenerate, task.HostClaimant, ""); got == nil || got.ID != old.ID {
		t.Fatalf("the host takes what a plugin is named for, the oldest first: %+v", got)
	}
	if got := b.claim(t, task.StageGenerate, task.HostClaimant, ""); got != nil {
		t.Fatalf("one at a time for each plugin: %+v", got)
	}
	if got := b.claim(t, task.StageGenerate, "agent", ""); got == nil || got.ID != pinned.ID {
		t.Fatalf("an agent takes what is first: %+v", got)
	}
	if got := b.claim(t, task.StageGenerate, "agent", ""); got != nil {
		t.Fatalf("two at a time for each workspace: %+v", got)
	}
}

func TestChecksChangeNothing(t *testing.T) {
	b := newBench(t, task.Settings{})
	made := b.make(t, nil)
	would, err := b.CheckCancel(t.Context(), made.ID, "me", "x")
	if err != nil || would.State != task.StateCancelled {
		t.Fatalf("%+v, %v", would, err)
	}
	if _, err := b.CheckCreate(t.Context(), task.New{Kind: task.KindManual, Title: "t", Workspace: "w", By: "me"}); err != nil {
		t.Fatal(err)
	}
	page, err := b.List(t.Context(), task.Filter{})
	if err != nil || len(page.Tasks) != 1 || page.Tasks[0].State != task.StateReady || len(b.told) != 1 {
		t.Errorf("%+v, %v, told %d", page, err, len(b.told))
	}
}

func TestCreateRefuses(t *testing.T) {
	b := newBench(t, task.Settings{})
	b.make(t, func(n *task.New) { n.Key = "k" })
	for name, change := range map[string]func(*task.New){
		"kind":      func(n *task.New) { n.Kind = "x" },
		"title":     func(n *task.New) { n.Title = " " },
		"line":      func(n *task.New) { n.Title = "a\nb" },
		"workspace": func(n *task.New) { n.Workspace = "" },
		"traversal": func(n *task.New) { n.Target = "../x" },
		"absolute":  func(n *task.New) { n.Target = "/etc" },
		"gaps":      func(n *task.New) { n.Gaps = []string{"nope"} },
		"key":       func(n *task.New) { n.Key = "k" },
		"depends":   func(n *task.New) { n.DependsOn = []string{"nope"} },
		"scope":     func(n *task.New) { n.Spec.Scope = []string{"a/["} },
		"protected": func(n *task.New) { n.Spec.Protected = []string{"a/../../x"} },
		"list":      func(n *task.New) { n.Spec.Criteria = make([]string, 101) },
	} {
		n := task.New{Kind: task.KindManual, Title: "t", Workspace: "w", By: "me"}
		change(&n)
		_, err := b.Create(t.Context(), n)
		var own *sdk.Error
		if !errors.As(err, &own) || own.Remedy == "" && own.Fields == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRun: a lost lease returns by itself, at the time that it ends.
func TestRun(t *testing.T) {
	b := newBench(t, task.Settings{})
	changed := make(chan task.Changed, 10)
	real := task.NewService(b.db.Tasks(), task.Options{Publisher: publisher(changed)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		real.Run(ctx, func(err error) { t.Error(err) })
	}()
	made, err := real.Create(ctx, task.New{Kind: task.KindManual, Title: "t", Workspace: "w", By: "me"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := real.Claim(ctx, task.ClaimRequest{Stage: task.StageGenerate, By: "a", ID: made.ID, Lease: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for c := range changed {
		if last := c.Changes[0]; last.Action == task.ActionLost {
			if late := last.At.Sub(got.LeaseUntil); late < 0 || late > time.Second {
				t.Errorf("returned %s after the lease", late)
			}
			break
		}
	}
	cancel()
	<-done
}

type publisher chan task.Changed

func (p publisher) Publish(e any) { p <- e.(task.Changed) }
