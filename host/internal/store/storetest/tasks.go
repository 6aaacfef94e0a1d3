package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/host/internal/task"
)

// RunTasks runs the suite of task stores. open returns an empty store, and closes
// it when t ends.
func RunTasks(t *testing.T, open func(t *testing.T) task.Store) {
	for name, test := range map[string]func(*testing.T, task.Store){
		"RoundTrip":    testTaskRoundTrip,
		"Rollback":     testTaskRollback,
		"References":   testTaskReferences,
		"Take":         testTaskTake,
		"TakeOrder":    testTaskTakeOrder,
		"TakeAtOnce":   testTaskTakeAtOnce,
		"Renew":        testTaskRenew,
		"Lost":         testTaskLost,
		"Dependencies": testTaskDependencies,
		"Key":          testTaskKey,
		"List":         testTaskList,
		"Filter":       testTaskFilter,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func makeTask(t *testing.T, change func(*task.Task)) *task.Task {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	made := &task.Task{
		ID: id.String(), Kind: task.KindGap, Title: "t ü☃", Type: "code_quality", Severity: "high", Workspace: "w", Target: "a/b.go", Rule: "r",
		Gaps: []string{"g1", "g2"}, Route: "docs", Sandbox: "scaffold", State: task.StateReady, Reason: "why", Base: 420, Since: epoch,
		Needs: []string{"scp"}, Attempts: 1, MaxAttempts: 3, DueAt: epoch, Fence: 4, Patch: "p", Feedback: "f\n", CreatedBy: "me",
		Spec:      task.Spec{Goal: "g", Criteria: []string{"c"}, Scaffold: "go-doc", Parameters: map[string]any{"n": 1.5, "s": "x"}},
		CreatedAt: epoch, ChangedAt: epoch.Add(1), Version: 1,
	}
	if change != nil {
		change(made)
	}
	return made
}

func inTaskTx(t *testing.T, s task.Store, fn func(ctx context.Context, tx task.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx task.Tx) error { return fn(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
}

func putTasks(t *testing.T, s task.Store, tasks ...*task.Task) {
	t.Helper()
	inTaskTx(t, s, func(ctx context.Context, tx task.Tx) error { return tx.Put(ctx, tasks, nil) })
}

func testTaskRoundTrip(t *testing.T, s task.Store) {
	other := makeTask(t, nil)
	putTasks(t, s, other)
	for _, made := range []*task.Task{
		makeTask(t, func(k *task.Task) {
			k.State, k.Before, k.Holder, k.Lease, k.LeaseUntil, k.Pinned = task.StateLeased, task.StateFailed, "a", time.Minute, epoch.Add(5), true
			k.DependsOn, k.Key = []string{other.ID}, "key"
		}),
		makeTask(t, func(k *task.Task) { k.Gaps, k.Needs, k.Spec = nil, nil, task.Spec{} }),
	} {
		changes := []task.Change{
			{TaskID: made.ID, Workspace: "w", Action: task.ActionCreated, At: epoch, To: task.StateReady, By: "me", Why: "w"},
			{TaskID: made.ID, Workspace: "w", Action: task.ActionClaimed, At: epoch.Add(1), From: task.StateReady, To: task.StateLeased, By: "a", Fence: 4},
		}
		inTaskTx(t, s, func(ctx context.Context, tx task.Tx) error { return tx.Put(ctx, []*task.Task{made}, changes) })
		made.State, made.Version = task.StateDone, 2
		putTasks(t, s, made) // replaced
		want := *made
		want.History = changes
		got, err := s.Get(t.Context(), made.ID)
		if err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("stored\n%+v, got\n%+v, %v", &want, got, err)
		}
	}
}

func testTaskRollback(t *testing.T, s task.Store) {
	made := makeTask(t, nil)
	failed := errors.New("failed")
	err := s.Update(t.Context(), func(tx task.Tx) error {
		return errors.Join(tx.Put(t.Context(), []*task.Task{made}, []task.Change{{TaskID: made.ID}}), failed)
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if got, err := s.Get(t.Context(), made.ID); !errors.Is(err, task.ErrNotFound) {
		t.Errorf("%+v is there, %v", got, err)
	}
}

func testTaskReferences(t *testing.T, s task.Store) {
	a, b := makeTask(t, nil), makeTask(t, nil)
	putTasks(t, s, a, b)
	if got, err := s.Get(t.Context(), a.ID); err != nil || got.ID != a.ID {
		t.Errorf("%+v, %v", got, err)
	}
	for ref, want := range map[string]error{"": task.ErrNotFound, "nope": task.ErrNotFound, a.ID + "0": task.ErrNotFound, a.ID[:1]: task.ErrAmbiguous} {
		if _, err := s.Get(t.Context(), ref); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", ref, err, want)
		}
	}
}

// take claims in a transaction of its own.
func take(t *testing.T, s task.Store, c task.Candidates) (got *task.Task) {
	t.Helper()
	inTaskTx(t, s, func(ctx context.Context, tx task.Tx) (err error) {
		got, err = tx.Take(ctx, c, task.Claim{By: "a", Lease: time.Minute, Until: c.At.Add(time.Minute), Why: "claimed"})
		return err
	})
	return got
}

func testTaskTake(t *testing.T, s task.Store) {
	made := makeTask(t, func(k *task.Task) { k.State, k.DueAt = task.StateFailed, epoch.Add(time.Hour) })
	putTasks(t, s, made)
	at := epoch.Add(time.Hour)
	for name, c := range map[string]task.Candidates{
		"not due":        {Stage: task.StageGenerate, At: at.Add(-1)},
		"another stage":  {Stage: task.StageVerify, At: at},
		"another id":     {Stage: task.StageGenerate, At: at, ID: "x"},
		"workspace":      {Stage: task.StageGenerate, At: at, Workspace: "x"},
		"full workspace": {Stage: task.StageGenerate, At: at, FullWorkspaces: []string{"w"}},
		"full sandbox":   {Stage: task.StageGenerate, At: at, FullSandboxes: []string{"x", "scaffold"}},
	} {
		if got := take(t, s, c); got != nil {
			t.Errorf("%s: took %+v", name, got)
		}
	}
	got := take(t, s, task.Candidates{Stage: task.StageGenerate, At: at, ID: made.ID, Workspace: "w", Routed: true, FullWorkspaces: []string{"x"}, FullSandboxes: []string{"y"}})
	want := *made
	want.State, want.Before, want.Reason, want.Holder, want.Fence = task.StateLeased, task.StateFailed, "claimed", "a", made.Fence+1
	want.Lease, want.LeaseUntil, want.Attempts, want.ChangedAt, want.Version = time.Minute, at.Add(time.Minute), 2, at, 2
	if !reflect.DeepEqual(got, &want) {
		t.Errorf("took\n%+v, want\n%+v", got, &want)
	}
	if again := take(t, s, task.Candidates{Stage: task.StageGenerate, At: at}); again != nil {
		t.Errorf("took twice: %+v", again)
	}
	if due, some, err := s.NextDue(t.Context(), task.StageGenerate); some || err != nil {
		t.Errorf("due %s, %v", due, err)
	}
	if end, some, err := s.NextLost(t.Context()); !some || err != nil || !end.Equal(want.LeaseUntil) {
		t.Errorf("ends %s %t, %v", end, some, err)
	}
}

func testTaskTakeOrder(t *testing.T, s task.Store) {
	low := makeTask(t, func(k *task.Task) { k.Base = 100 })
	high := makeTask(t, func(k *task.Task) { k.Base, k.Sandbox = 500, "" })
	old := makeTask(t, func(k *task.Task) { k.Base, k.Since = 400, epoch.Add(-200*24*time.Hour) })
	pinned := makeTask(t, func(k *task.Task) { k.Base, k.Pinned = 100, true })
	putTasks(t, s, low, high, old, pinned)
	var order []string
	for {
		got := take(t, s, task.Candidates{Stage: task.StageGenerate, At: epoch, Routed: true})
		if got == nil {
			break
		}
		order = append(order, got.ID)
	}
	if want := []string{pinned.ID, old.ID, low.ID}; !slices.Equal(order, want) {
		t.Errorf("took %v, want %v", order, want)
	}
	if got := take(t, s, task.Candidates{Stage: task.StageGenerate, At: epoch}); got == nil || got.ID != high.ID {
		t.Errorf("took %+v", got)
	}
}

// testTaskTakeAtOnce: of many who claim at once, each task is given to one.
func testTaskTakeAtOnce(t *testing.T, s task.Store) {
	const claimants, tasks = 64, 40
	for range tasks {
		putTasks(t, s, makeTask(t, nil))
	}
	var mu sync.Mutex
	taken := make(map[string]int)
	var wg sync.WaitGroup
	for i := range claimants {
		wg.Go(func() {
			by := fmt.Sprint("agent-", i)
			err := s.Update(t.Context(), func(tx task.Tx) error {
				got, err := tx.Take(t.Context(), task.Candidates{Stage: task.StageGenerate, At: epoch}, task.Claim{By: by, Lease: time.Minute, Until: epoch.Add(time.Minute)})
				if got != nil {
					mu.Lock()
					taken[got.ID]++
					mu.Unlock()
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(taken) != tasks {
		t.Errorf("%d of %d tasks were taken", len(taken), tasks)
	}
	for id, n := range taken {
		if n != 1 {
			t.Errorf("%s was taken %d times", id, n)
		}
	}
}

func testTaskRenew(t *testing.T, s task.Store) {
	putTasks(t, s, makeTask(t, nil))
	got := take(t, s, task.Candidates{Stage: task.StageGenerate, At: epoch})
	hold := got.Hold()
	for name, tt := range map[string]struct {
		hold task.Hold
		at   time.Time
		ok   bool
	}{
		"fence":   {task.Hold{ID: hold.ID, Fence: hold.Fence - 1, By: hold.By}, epoch, false},
		"another": {task.Hold{ID: hold.ID, Fence: hold.Fence, By: "b"}, epoch, false},
		"nobody":  {task.Hold{ID: hold.ID, Fence: hold.Fence}, epoch, false},
		"late":    {hold, epoch.Add(time.Minute), false},
	} {
		inTaskTx(t, s, func(ctx context.Context, tx task.Tx) error {
			renewed, err := tx.Renew(ctx, tt.hold, tt.at)
			if (renewed != nil) != tt.ok {
				t.Errorf("%s: %+v", name, renewed)
			}
			return err
		})
	}
	inTaskTx(t, s, func(ctx context.Context, tx task.Tx) error {
		at := epoch.Add(time.Minute - 1)
		renewed, err := tx.Renew(ctx, hold, at)
		if renewed == nil || !renewed.LeaseUntil.Equal(at.Add(time.Minute)) {
			t.Errorf("%+v", renewed)
		}
		return err
	})
}

func testTaskLost(t *testing.T, s task.Store) {
	for range 3 {
		putTasks(t, s, makeTask(t, nil))
	}
	for i := range 3 {
		take(t, s, task.Candidates{Stage: task.StageGenerate, At: epoch.Add(time.Duration(i) * time.Second)})
	}
	inTaskTx(t, s, func(ctx context.Context, tx task.Tx) error {
		for at, want := range map[time.Time]int{epoch.Add(time.Minute - 1): 0, epoch.Add(time.Minute): 1, epoch.Add(time.Hour): 2} {
			lost, err := tx.Lost(ctx, at, 2)
			if err != nil || len(lost) != want {
				t.Errorf("at %s: %d, %v", at, len(lost), err)
			}
		}
		held, err := tx.HeldBy(ctx, "a")
		if err != nil || len(held) != 3 {
			t.Errorf("%d, %v", len(held), err)
		}
		loads, err := tx.Loads(ctx)
		if err != nil || !slices.Equal(loads, []task.Load{{Workspace: "w", Tasks: 3}}) {
			t.Errorf("%+v, %v", loads, err)
		}
		return nil
	})
}

func testTaskDependencies(t *testing.T, s task.Store) {
	done := makeTask(t, func(k *task.Task) { k.State = task.StateDone })
	open := makeTask(t, nil)
	blocked := makeTask(t, func(k *task.Task) { k.State, k.DependsOn = task.StateBlocked, []string{done.ID, open.ID} })
	putTasks(t, s, done, open, blocked)
	inTaskTx(t, s, func(ctx context.Context, tx task.Tx) error {
		undone, err := tx.Undone(ctx, blocked.DependsOn)
		if err != nil || !slices.Equal(undone, []string{open.ID}) {
			t.Errorf("%v, %v", undone, err)
		}
		for on, want := range map[string]int{"": 1, open.ID: 1, blocked.ID: 0} {
			got, err := tx.Blocked(ctx, on, 10)
			if err != nil || len(got) != want {
				t.Errorf("on %q: %d, %v", on, len(got), err)
			}
		}
		return nil
	})
}

func testTaskKey(t *testing.T, s task.Store) {
	made := makeTask(t, func(k *task.Task) { k.Key = "k" })
	putTasks(t, s, makeTask(t, func(k *task.Task) { k.Key, k.State = "k", task.StateDone }), made, makeTask(t, nil), makeTask(t, nil))
	inTaskTx(t, s, func(ctx context.Context, tx task.Tx) error {
		for key, want := range map[string]string{"k": made.ID, "": "", "other": ""} {
			got, err := tx.Unclosed(ctx, key)
			if err != nil || (got == nil) != (want == "") || got != nil && got.ID != want {
				t.Errorf("%q: %+v, %v", key, got, err)
			}
		}
		return nil
	})
	err := s.Update(t.Context(), func(tx task.Tx) error {
		return tx.Put(t.Context(), []*task.Task{makeTask(t, func(k *task.Task) { k.Key = "k" })}, nil)
	})
	if err == nil {
		t.Error("two tasks that are not closed have one key")
	}
	for _, state := range task.States() { // the index knows the same states
		k := "state/" + string(state)
		putTasks(t, s, makeTask(t, func(x *task.Task) { x.Key, x.State = k, state }))
		inTaskTx(t, s, func(ctx context.Context, tx task.Tx) error {
			got, err := tx.Unclosed(ctx, k)
			if (got == nil) != state.Closed() {
				t.Errorf("%s: %+v", state, got)
			}
			return err
		})
	}
}

func testTaskList(t *testing.T, s task.Store) {
	var all []*task.Task
	for i := range 25 {
		all = append(all, makeTask(t, func(k *task.Task) {
			k.Base, k.Pinned, k.Gaps = 100*(i%5), i%7 == 0, []string{fmt.Sprint("g", i)}
			k.Workspace, k.State = fmt.Sprint("w", i%2), task.States()[i%3]
		}))
	}
	putTasks(t, s, all...)
	slices.SortFunc(all, func(a, b *task.Task) int {
		if a.Pinned != b.Pinned {
			if a.Pinned {
				return -1
			}
			return 1
		}
		if a.Rank() != b.Rank() {
			return int(b.Rank() - a.Rank())
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	var got []string
	f := task.Filter{Limit: 7}
	for {
		page, err := s.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if f.Token == "" && page.Total != 25 {
			t.Errorf("total %d", page.Total)
		}
		for _, k := range page.Tasks {
			got = append(got, k.ID)
		}
		if f.Token = page.Next; f.Token == "" {
			break
		}
	}
	for i, k := range all {
		if i >= len(got) || got[i] != k.ID {
			t.Fatalf("the order is %v", got)
		}
	}
	for want, f := range map[int]task.Filter{
		13: {Workspace: "w0"}, 9: {States: []task.State{task.StateBacklog}}, 25: {Kinds: task.Kinds()}, 1: {Gap: "g3"}, 0: {Holder: "x"},
	} {
		if page, err := s.List(t.Context(), f); err != nil || len(page.Tasks) != want {
			t.Errorf("%+v: %d, %v", f, len(page.Tasks), err)
		}
	}
}

func testTaskFilter(t *testing.T, s task.Store) {
	putTasks(t, s, makeTask(t, nil), makeTask(t, func(k *task.Task) { k.Pinned, k.LeaseUntil, k.Holder = true, epoch, "a" }))
	for text, want := range map[string]int{
		`pinned = yes`: 1, `state = ready`: 2, `target : "a"`: 2, `lease_until > "2000-01-01T00:00:00Z"`: 1, `title = "t*"`: 2, `attempts > 1`: 0,
		`holder = "a" OR NOT pinned = yes`: 2, `rank < 0 AND due_at < "2100-01-01T00:00:00Z"`: 2,
	} {
		where, err := filter.Parse(text, task.ListFields)
		if err != nil {
			t.Fatal(err)
		}
		page, err := s.List(t.Context(), task.Filter{Where: where})
		if err != nil || len(page.Tasks) != want {
			t.Errorf("%s: %d, %v", text, len(page.Tasks), err)
		}
	}
	for _, f := range task.ListFields {
		keys, err := filter.ParseOrder(f.Name+" desc", task.ListFields)
		if err != nil {
			t.Fatal(err)
		}
		page, err := s.List(t.Context(), task.Filter{Order: keys, Limit: 1})
		if err != nil || len(page.Tasks) != 1 {
			t.Fatalf("by %s: %+v, %v", f.Name, page, err)
		}
		if page, err = s.List(t.Context(), task.Filter{Order: keys, Limit: 1, Token: page.Next}); err != nil || len(page.Tasks) != 1 || page.Next != "" {
			t.Errorf("by %s, the second page: %+v, %v", f.Name, page, err)
		}
	}
}
