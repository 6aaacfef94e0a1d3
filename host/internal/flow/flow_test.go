package flow_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/flow"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/integration"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk"
)

func TestByItself(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	w.save = func(_ context.Context, r backup.SaveRequest) error {
		w.holds(content) // the backup comes first
		if !slices.Equal(r.Paths, []string{file}) || !r.Whole || r.Patch == "" || r.Task == "" {
			t.Errorf("%+v", r)
		}
		return nil
	}
	w.run()
	done := w.await(task.StateDone)
	w.holds(mended)
	if p := w.patch(); p.State != patch.StateIntegrated || p.Backup != "snapshot-1" || p.Proposer != "plugin:sandbox.fake" || p.Token != "accessor" {
		t.Errorf("%+v", p)
	}
	if done.Attempts != 1 || done.Reason == "" {
		t.Errorf("%+v", done)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var states []task.State
	for _, s := range w.steps {
		if s.Phase == "" {
			states = append(states, s.State)
		}
	}
	want := []task.State{
		task.StateLeased, task.StateRunning, task.StateProposed, task.StateVerifying, task.StateApproved, task.StateIntegrating, task.StateDone,
	}
	if !slices.Equal(states, want) {
		t.Errorf("the way was %v, want %v", states, want)
	}
}

func TestApproval(t *testing.T) {
	w := newWorld(t, task.ApprovalOne)
	w.run()
	w.await(task.StateAwaiting)
	w.holds(content)
	p := w.patch()
	if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "somebody", ""); err != nil {
		t.Fatal(err)
	}
	w.await(task.StateDone)
	w.holds(mended)
}

func TestDenial(t *testing.T) {
	w := newWorld(t, task.ApprovalOne)
	w.run()
	w.await(task.StateAwaiting)
	if _, err := w.patches.Deny(t.Context(), w.patch().ID, "somebody", "not so"); err != nil {
		t.Fatal(err)
	}
	if denied := w.await(task.StateDenied); denied.Feedback != "not so" {
		t.Errorf("%+v", denied)
	}
	w.holds(content)
}

// A denial holds wherever the task is on its way: the same change is not made anew,
// nor does a rule approve it.
func TestDenialOnTheWay(t *testing.T) {
	deny := func(w *world) {
		if _, err := w.patches.Deny(w.t.Context(), w.patch().ID, "somebody", "not so"); err != nil {
			w.t.Error(err)
		}
	}
	for name, prepare := range map[string]func(w *world) (then func()){
		"while it is verified": func(w *world) func() {
			w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
				deny(w)
				return patch.Verdict{Passed: true}, nil
			}
			return nil
		},
		"while it is verified, which fails": func(w *world) func() {
			w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
				deny(w)
				return patch.Verdict{}, errors.New("no room")
			}
			return nil
		},
		"while it waits for clean files": func(w *world) func() {
			w.save = func(context.Context, backup.SaveRequest) error {
				return sdk.Errorf(codes.FailedPrecondition, integration.ReasonDirty, "edits")
			}
			return func() {
				w.awaitThat("waits for clean files", func(now *task.Task) bool { return now.State == task.StateApproved && now.DueAt.After(time.Now()) })
				deny(w)
			}
		},
		"before it is integrated": func(w *world) func() {
			w.missing = func(p *patch.Patch) []string {
				if p.State == patch.StateApproved {
					deny(w)
				}
				return nil
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, task.ApprovalAuto)
			then := prepare(w)
			w.run()
			if then != nil {
				then()
			}
			if now := w.awaitThat("has ended", func(now *task.Task) bool { return now.State.Closed() }); now.State != task.StateDenied || now.Feedback != "not so" || now.Attempts != 1 {
				t.Errorf("%+v", now)
			}
			w.holds(content)
		})
	}
}

// So does one that was made while no host ran.
func TestDenialWhileTheHostWasAway(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	begun := make(chan struct{})
	w.verify = func(ctx context.Context, _ flow.Check) (patch.Verdict, error) {
		close(begun)
		<-ctx.Done()
		return patch.Verdict{}, ctx.Err()
	}
	stop := w.run()
	<-begun
	stop()
	if _, err := w.patches.Deny(t.Context(), w.patch().ID, "somebody", "not so"); err != nil {
		t.Fatal(err)
	}
	w.engine = w.newEngine()
	w.run()
	if denied := w.await(task.StateDenied); denied.Attempts != 1 || denied.Feedback != "not so" {
		t.Errorf("%+v", denied)
	}
	w.holds(content)
}

// Nobody is asked about a patch whose task has ended otherwise, and nobody can
// approve it.
func TestTaskEndsOtherwise(t *testing.T) {
	for name, end := range map[string]func(w *world) error{
		"mended by hand": func(w *world) error {
			w.found(gap.StateResolved)
			_, err := w.tasks.Plan(t.Context(), "w")
			return err
		},
		"cancelled": func(w *world) error {
			_, err := w.tasks.Cancel(t.Context(), w.only().ID, "somebody", "no longer wanted")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, task.ApprovalOne)
			w.run()
			w.await(task.StateAwaiting)
			if err := end(w); err != nil {
				t.Fatal(err)
			}
			w.awaitPatch("has ended", func(p *patch.Patch) bool {
				return p.State == patch.StateRejected && strings.Contains(p.Reason, "its task is ")
			})
			p := w.patch()
			if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "somebody", ""); !contains([]string{fmt.Sprint(err)}, "is rejected") {
				t.Errorf("%v", err)
			}
		})
	}
}

// Nor about one that its task does not go on with, such as what an agent submitted
// that did not do.
func TestTaskGoesOnWithAnotherPatch(t *testing.T) {
	w := newWorld(t, task.ApprovalOne)
	stop := w.run()
	w.await(task.StateAwaiting)
	stop()
	p := w.patch()
	root, err := os.OpenRoot(w.root)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }() // only read from
	run := w.replaces(content, "other\n")
	other, err := w.patches.Propose(t.Context(), patch.Proposal{Task: p.Task, Workspace: "w", Proposer: "bot", Set: run.Set, Content: run.Content, Old: patch.OldFrom(root)})
	if err != nil {
		t.Fatal(err)
	}
	w.engine = w.newEngine()
	w.run()
	w.awaitThat("has one patch", func(*task.Task) bool {
		now, err := w.patches.Get(t.Context(), other.ID)
		return err == nil && now.State == patch.StateRejected
	})
	if p = w.patch(); p.ID == other.ID || p.State != patch.StateVerified {
		t.Errorf("%+v", p)
	}
}

// A decision that was made while no host ran counts as well.
func TestDecisionWhileTheHostWasAway(t *testing.T) {
	w := newWorld(t, task.ApprovalOne)
	stop := w.run()
	w.await(task.StateAwaiting)
	stop()
	p := w.patch()
	if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "somebody", ""); err != nil {
		t.Fatal(err)
	}
	w.engine = w.newEngine()
	w.run()
	w.await(task.StateDone)
}

// What verification found is told to the next attempt; with all attempts spent
// the task is dead and nothing was changed.
func TestVerificationFails(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
		return patch.Verdict{Why: "test: it does not compile"}, nil
	}
	w.run()
	dead := w.await(task.StateDead)
	if dead.Attempts != 2 || !strings.Contains(dead.Feedback, "does not compile") {
		t.Errorf("%+v", dead)
	}
	w.holds(content)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.feedback) != 2 || contains(w.feedback[:1], "does not compile") || !contains(w.feedback[1:], "does not compile") {
		t.Errorf("the generator was told %v", w.feedback)
	}
}

// A patch that does not close the gap is taken out again.
func TestGapStillThere(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	w.generate = func(_ context.Context, _ flow.RunRequest, now string) (*flow.Run, error) {
		return w.replaces(now, now+"more\n"), nil
	}
	w.run()
	dead := w.await(task.StateDead)
	w.holds(content)
	if p := w.patch(); p.State != patch.StateRolledBack || p.Token != "rollback accessor" || !strings.Contains(dead.Feedback, "still there") {
		t.Errorf("%+v\n%+v", p, dead)
	}
}

// What is being integrated is not taken back: whoever wants that waits until it is
// there, and the integration stands under its own token.
func TestRollbackWhileIntegrating(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	w.save = func(ctx context.Context, r backup.SaveRequest) error {
		_, _, err := patches{w.patches, w}.Rollback(ctx, r.Patch, patch.RollbackRequest{By: "somebody", Why: "stop it", Token: "of somebody"})
		if e := sdk.FromError(err); e == nil || e.Reason != patch.ReasonTransition || e.Remedy != "wait until it is integrated" {
			t.Errorf("%v", err)
		}
		return nil
	}
	w.run()
	w.await(task.StateDone)
	w.holds(mended)
	if p := w.patch(); p.State != patch.StateIntegrated || p.Token != "accessor" {
		t.Errorf("%+v", p)
	}
}

// What somebody takes back while the rescan decides is not done, and not made anew.
func TestRollbackWhileConfirming(t *testing.T) {
	back := func(w *world) {
		_, _, err := patches{w.patches, w}.Rollback(w.t.Context(), w.patch().ID, patch.RollbackRequest{By: "somebody", Why: "not so", Token: "of somebody"})
		if err != nil {
			w.t.Error(err)
		}
	}
	for name, rescan := range map[string]func(w *world) error{
		"before the scan": func(w *world) error { back(w); return w.scan(w.t.Context()) },
		"after the scan":  func(w *world) error { err := w.scan(w.t.Context()); back(w); return err },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, task.ApprovalAuto)
			w.rescan = func(context.Context) error { return rescan(w) }
			w.run()
			if now := w.await(task.StateRolledBack); now.Reason != "not so" || now.Attempts != 1 {
				t.Errorf("%+v", now)
			}
			w.holds(content)
		})
	}
}

// What lowers coverage is for somebody to look at, whatever the rule says.
func TestLowerCoverage(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
		return patch.Verdict{Passed: true, CoverageLowered: true}, nil
	}
	w.run()
	w.await(task.StateAwaiting)
	w.holds(content)
	if p := w.patch(); !slices.Contains(p.Risks, patch.RiskCoverageLowered) || p.Needed() != 1 {
		t.Errorf("%+v", p)
	}
}

// A rule that has become stricter while a patch was verified holds for it.
func TestRuleBecomesStricter(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
		w.tasks.SetSettings(task.Settings{Attempts: 2, Rules: []task.Rule{{Name: "all", Route: task.Route{Sandbox: "fake", Approval: task.ApprovalTwo}}}})
		return patch.Verdict{Passed: true}, nil
	}
	w.run()
	w.await(task.StateAwaiting)
	w.holds(content)
	if p := w.patch(); p.State != patch.StateVerified || p.Needed() != 2 {
		t.Errorf("%+v", p)
	}
}

// A rule that becomes stricter holds for a patch that waits for approval: for the
// approvals that it takes, and for new verify steps, with which it is verified
// again, and approved again.
func TestRuleBecomesStricterWhileItWaits(t *testing.T) {
	w := newWorld(t, task.ApprovalOne)
	var verified atomic.Int32
	w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
		verified.Add(1)
		return patch.Verdict{Passed: true}, nil
	}
	var stepCame atomic.Bool
	w.missing = func(*patch.Patch) []string {
		if stepCame.Load() && verified.Load() == 1 {
			return []string{"lint"}
		}
		return nil
	}
	w.run()
	w.await(task.StateAwaiting)
	w.rule(task.ApprovalTwo)
	p := w.patch()
	if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "somebody", ""); err != nil {
		t.Fatal(err)
	}
	w.awaitPatch("waits for a second approval", func(p *patch.Patch) bool {
		return p.State == patch.StateVerified && p.Needed() == 2 && len(p.Approvals) == 1
	})
	w.await(task.StateAwaiting)
	w.holds(content)

	stepCame.Store(true)
	w.changed.Tell()
	w.awaitPatch("was verified again", func(p *patch.Patch) bool {
		return p.State == patch.StateVerified && len(p.Approvals) == 0 && verified.Load() == 2
	})
	w.await(task.StateAwaiting)
	w.holds(content)
	for _, by := range []string{"somebody", "somebody else"} {
		if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, by, ""); err != nil {
			t.Fatal(err)
		}
	}
	w.await(task.StateDone)
	w.holds(mended)
	history := w.patch().History
	if !slices.ContainsFunc(history, func(c patch.Change) bool { return c.Action == patch.Reopened && strings.Contains(c.Why, "lint") }) {
		t.Errorf("it does not say why it was verified again: %+v", history)
	}
}

// It holds for a patch that is approved and not yet integrated, too.
func TestRuleBecomesStricterAfterApproval(t *testing.T) {
	for name, c := range map[string]struct {
		rule    task.Approval
		missing bool
		state   patch.State
		at      task.State
	}{
		"an approval more":  {task.ApprovalOne, false, patch.StateVerified, task.StateAwaiting},
		"a verify step":     {task.ApprovalAuto, true, patch.StateApproved, task.StateDone},
		"nothing of either": {task.ApprovalAuto, false, patch.StateApproved, task.StateDone},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, task.ApprovalAuto)
			dirty := true
			asked := make(chan struct{}, 1)
			w.save = func(context.Context, backup.SaveRequest) error {
				if dirty { // somebody has edits that are not committed
					dirty = false
					asked <- struct{}{}
					return sdk.Errorf(codes.FailedPrecondition, integration.ReasonDirty, "edits")
				}
				return nil
			}
			var verified atomic.Int32
			w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
				verified.Add(1)
				return patch.Verdict{Passed: true}, nil
			}
			stop := w.run()
			<-asked
			w.awaitThat("waits for clean files", func(now *task.Task) bool { return now.State == task.StateApproved && now.DueAt.After(time.Now()) })
			stop()
			w.rule(c.rule)
			w.missing = func(*patch.Patch) []string {
				if c.missing && verified.Load() == 1 {
					return []string{"lint"}
				}
				return nil
			}
			w.clock(6 * time.Minute)
			w.engine = w.newEngine()
			w.run()
			w.await(c.at)
			want := int32(1)
			if c.missing {
				want = 2
			}
			if p := w.patch(); verified.Load() != want || c.at == task.StateAwaiting && p.State != c.state {
				t.Errorf("verified %d times, %+v", verified.Load(), p)
			}
			if c.at == task.StateAwaiting {
				w.holds(content)
			}
		})
	}
}

// What somebody has approved who is revoked before it is integrated waits for
// somebody else.
func TestApproverIsRevoked(t *testing.T) {
	w := newWorld(t, task.ApprovalOne)
	var revoked atomic.Bool
	w.revoked = func(agent string) bool { return revoked.Load() && agent == "thief" }
	w.save = func(context.Context, backup.SaveRequest) error { // somebody has edits that are not committed
		return sdk.Errorf(codes.FailedPrecondition, integration.ReasonDirty, "edits")
	}
	stop := w.run()
	w.await(task.StateAwaiting)
	p := w.patch()
	if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "thief", ""); err != nil {
		t.Fatal(err)
	}
	w.awaitThat("waits for clean files", func(now *task.Task) bool { return now.State == task.StateApproved && now.DueAt.After(time.Now()) })
	stop()
	revoked.Store(true)
	w.save = func(context.Context, backup.SaveRequest) error { return nil }
	w.clock(6 * time.Minute)
	w.engine = w.newEngine()
	w.run()
	w.await(task.StateAwaiting)
	w.holds(content)
	if p = w.patch(); p.State != patch.StateVerified || len(p.Approvals) != 0 {
		t.Errorf("%+v", p)
	}
	if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "somebody", ""); err != nil {
		t.Fatal(err)
	}
	w.await(task.StateDone)
	w.holds(mended)
}

// What is asked for may change while the backup is made, and while a post-check runs.
func TestApprovalGoesWhileIntegrating(t *testing.T) {
	var revoked, unmet atomic.Bool
	changes := map[string]struct {
		change func(w *world)
		state  patch.State // then
	}{
		"the approver is revoked": {func(*world) { revoked.Store(true) }, patch.StateVerified},
		"two have to approve":     {func(w *world) { w.rule(task.ApprovalTwo) }, patch.StateVerified},
		"a verify step has come":  {func(*world) { unmet.Store(true) }, patch.StateProposed},
	}
	moments := map[string]func(w *world, do func()){
		"backup": func(w *world, do func()) {
			w.save = func(context.Context, backup.SaveRequest) error { do(); return nil }
		},
		"post-check": func(w *world, do func()) {
			w.postCheck = func(flow.Made) (patch.Verdict, error) { do(); return patch.Verdict{Passed: true}, nil }
		},
		"post-check of a commit": func(w *world, do func()) {
			w.mode = integration.Branch
			w.commit()
			w.postCheck = func(flow.Made) (patch.Verdict, error) { do(); return patch.Verdict{Passed: true}, nil }
		},
	}
	for what, c := range changes {
		for when, at := range moments {
			t.Run(what+" during the "+when, func(t *testing.T) {
				revoked.Store(false)
				w := newWorld(t, task.ApprovalOne)
				w.revoked = func(agent string) bool { return revoked.Load() && agent == "thief" }
				w.missing = func(*patch.Patch) (missing []string) {
					if unmet.Load() {
						missing = append(missing, "lint")
					}
					return missing
				}
				w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
					unmet.Store(false)
					return patch.Verdict{Passed: true}, nil
				}
				at(w, func() { c.change(w) })
				w.run()
				w.await(task.StateAwaiting)
				p := w.patch()
				if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "thief", ""); err != nil {
					t.Fatal(err)
				}
				w.awaitPatch("is approved no more", func(p *patch.Patch) bool {
					return slices.ContainsFunc(p.History, func(c patch.Change) bool { return c.Action == patch.Undone && c.To == patch.StateApproved }) && p.State == patch.StateVerified
				})
				if again := w.await(task.StateAwaiting); again.Patch != p.ID || again.Attempts != 1 {
					t.Errorf("%+v", again)
				}
				w.holds(content)
				if w.mode == integration.Branch && w.git("branch", "--list", "sop/test") != "" {
					t.Error("the branch is there")
				}
				if p := w.patch(); !slices.ContainsFunc(p.History, func(h patch.Change) bool { return h.From == patch.StateApproved && h.To == c.state }) {
					t.Errorf("%+v", p.History)
				}
			})
		}
	}
}

// A host that was killed between the step of a patch and that of its task goes on
// with the patch.
func TestPatchIsBehind(t *testing.T) {
	w := newWorld(t, task.ApprovalOne)
	stop := w.run()
	w.await(task.StateAwaiting)
	stop()
	if _, err := w.patches.VerifyAgain(t.Context(), w.patch().ID, "flow", "a step has come"); err != nil {
		t.Fatal(err)
	}
	w.engine = w.newEngine()
	w.run()
	w.awaitPatch("was verified again", func(p *patch.Patch) bool { return p.State == patch.StateVerified })
	w.await(task.StateAwaiting)
}

// A post-check sees what was integrated; what fails it is taken back, and the next
// attempt is told why.
func TestPostCheckFails(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	var seen []string
	w.postCheck = func(c flow.Made) (patch.Verdict, error) {
		if c.Root != w.root || !c.There || c.Confirm {
			t.Errorf("%+v", c)
		}
		seen = append(seen, c.Steps[0]+" "+w.read())
		return patch.Verdict{Passed: len(seen) > 1, Why: "build: exit code 1"}, nil
	}
	w.run()
	done := w.await(task.StateDone)
	w.holds(mended)
	if want := "build " + mended; len(seen) != 2 || seen[0] != want || seen[1] != want || done.Attempts != 2 {
		t.Errorf("the checks saw %q, %+v", seen, done)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.feedback) != 2 || !contains(w.feedback[1:], "post-check failed: build: exit code 1") {
		t.Errorf("the generator was told %v", w.feedback)
	}
}

// What goes to a branch or a file is looked at, by the detectors too, before it is
// there: nothing of what fails is, and the next attempt is told why.
func TestHandedOverAfterItWasConfirmed(t *testing.T) {
	for _, mode := range []integration.Mode{integration.Branch, integration.PatchFile} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t, task.ApprovalAuto)
			w.mode = mode
			w.commit()
			handedOver := func() bool {
				files, err := os.ReadDir(w.dir)
				return err != nil || len(files) > 0 || w.git("branch", "--list", "sop/test") != ""
			}
			tries := 0
			w.postCheck = func(c flow.Made) (patch.Verdict, error) {
				tries++
				if !c.Confirm || c.There != (mode == integration.Branch) || handedOver() {
					t.Errorf("%+v", c)
				}
				if c.There {
					text, err := os.ReadFile(filepath.Join(c.Root, file))
					if err != nil || string(text) != mended || c.Root == w.root {
						t.Errorf("what is looked at holds %q, %v", text, err)
					}
				}
				return patch.Verdict{Passed: tries > 1, Why: "gap: it is still reported"}, nil
			}
			w.run()
			done := w.await(task.StateDone)
			if !handedOver() || done.Attempts != 2 || !strings.Contains(done.Reason, "confirmed on what was handed over, before that: build") {
				t.Errorf("%+v", done)
			}
			w.holds(content)
			if mode == integration.Branch {
				if trailer := w.git("log", "-1", "--format=%(trailers:key=Sop-Audit,valueonly)", "sop/test"); trailer != "7 sha256:"+w.patch().ID {
					t.Errorf("the commit names the record %q", trailer)
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.feedback) != 2 || !contains(w.feedback[1:], "gap: it is still reported") {
				t.Errorf("the generator was told %v", w.feedback)
			}
		})
	}
}

// An edit that somebody makes while a patch waits is kept.
func TestBaseMoves(t *testing.T) {
	for name, edit := range map[string]struct{ text, want string }{
		"elsewhere":     {"first, edited\nGAP\nlast\n", "first, edited\nmended\nlast\n"},
		"the same line": {"first\nGAP, edited\nlast\n", "first\nmended, edited\nlast\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, task.ApprovalOne)
			w.run()
			w.await(task.StateAwaiting)
			first := w.patch()
			w.write(edit.text)
			if _, err := w.patches.Approve(t.Context(), first.ID, first.Hash, "somebody", ""); err != nil {
				t.Fatal(err)
			}
			// The approval was for what it was: the new patch needs its own.
			w.awaitThat("waits with another patch", func(now *task.Task) bool {
				return now.State == task.StateAwaiting && now.Patch != first.ID
			})
			w.holds(edit.text)
			p := w.patch()
			if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "somebody", ""); err != nil {
				t.Fatal(err)
			}
			w.await(task.StateDone)
			w.holds(edit.want)
		})
	}
}

// What was only touched has not moved: the patch keeps its approval, and the task
// its attempt.
func TestBaseIsTouched(t *testing.T) {
	w := newWorld(t, task.ApprovalOne)
	w.run()
	w.await(task.StateAwaiting)
	old, err := os.Open(w.path()) // somebody has the file open that is replaced
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }() // only read from
	var touched atomic.Bool
	w.postCheck = func(flow.Made) (patch.Verdict, error) {
		if touched.CompareAndSwap(false, true) {
			if err := os.Chtimes(fmt.Sprintf("/proc/self/fd/%d", old.Fd()), time.Now(), time.Now()); err != nil {
				t.Error(err)
			}
		}
		return patch.Verdict{Passed: true}, nil
	}
	p := w.patch()
	if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "somebody", ""); err != nil {
		t.Fatal(err)
	}
	w.awaitThat("is tried again", func(now *task.Task) bool {
		return touched.Load() && now.State == task.StateApproved && now.DueAt.After(w.now())
	})
	w.clock(time.Minute)
	w.changed.Tell()
	if done := w.await(task.StateDone); done.Attempts != 1 || done.Patch != p.ID {
		t.Errorf("%+v", done)
	}
	w.holds(mended)
}

// What seems to move whenever a patch is verified is not verified for ever.
func TestBaseSeemsToMove(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	var verified atomic.Int32
	w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
		verified.Add(1)
		return patch.Verdict{}, sandbox.ErrConflict
	}
	w.run()
	dead := w.awaitThat("is given up", func(now *task.Task) bool {
		if now.State == task.StateProposed && now.DueAt.After(w.now()) {
			w.clock(time.Minute)
			w.changed.Tell()
		}
		return now.State == task.StateDead
	})
	if dead.Attempts != 2 || verified.Load() < 4 {
		t.Errorf("verified %d times, %+v", verified.Load(), dead)
	}
}

func TestNothingToDo(t *testing.T) {
	for name, c := range map[string]struct {
		gone bool
		want task.State
	}{"the gap is gone": {true, task.StateDone}, "the gap is there": {false, task.StateDead}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, task.ApprovalAuto)
			w.generate = func(context.Context, flow.RunRequest, string) (*flow.Run, error) {
				return &flow.Run{Outcome: flow.Unchanged, Why: "all is well", Close: func() error { return nil }}, nil
			}
			w.rescan = func(ctx context.Context) error {
				if c.gone {
					w.found(gap.StateResolved)
					_, err := w.tasks.Plan(ctx, "w")
					return err
				}
				return nil
			}
			w.run()
			w.await(c.want)
		})
	}
}

// What cannot be saved is not replaced.
func TestBackupFails(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	w.save = func(context.Context, backup.SaveRequest) error {
		return sdk.Errorf(codes.FailedPrecondition, "BACKUP_INCOMPLETE", "a file could not be read")
	}
	w.run()
	if dead := w.await(task.StateDead); !strings.Contains(dead.Reason, "could not be read") {
		t.Errorf("%+v", dead)
	}
	w.holds(content)
	w.awaitPatch("has ended", func(p *patch.Patch) bool { return p.State == patch.StateRejected })
}

// A scan that proves nothing leads to no rollback: it is asked again.
func TestRescanFails(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	asked := make(chan struct{}, 8)
	w.rescan = func(ctx context.Context) error {
		asked <- struct{}{}
		return sdk.Errorf(codes.Unavailable, "SCAN_INCOMPLETE", "a detector is away")
	}
	stop := w.run()
	<-asked
	w.awaitThat("was given back", func(now *task.Task) bool { return now.State == task.StateApproved })
	w.holds(mended)
	stop()
	if p := w.patch(); p.State != patch.StateIntegrated {
		t.Errorf("%+v", p)
	}
}

// A host that stops in the middle goes on where it was.
func TestStopInTheMiddle(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	begun := make(chan struct{})
	w.verify = func(ctx context.Context, _ flow.Check) (patch.Verdict, error) {
		close(begun)
		<-ctx.Done()
		return patch.Verdict{}, ctx.Err()
	}
	stop := w.run()
	<-begun
	stop()
	if now := w.only(); now.State != task.StateProposed {
		t.Fatalf("%+v", now)
	}
	w.verify = func(context.Context, flow.Check) (patch.Verdict, error) { return patch.Verdict{Passed: true}, nil }
	w.engine = w.newEngine()
	w.run()
	if done := w.await(task.StateDone); done.Attempts != 1 {
		t.Errorf("%+v", done)
	}
	w.holds(mended)
}

// A host that was killed in the middle of an integration, and whose next one found no
// workspace when it started, takes back what is half done before it goes on.
func TestHalfDone(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	killed := make(chan struct{})
	w.postCheck = func(flow.Made) (patch.Verdict, error) {
		close(killed)
		runtime.Goexit() // nothing is cleaned up
		return patch.Verdict{}, nil
	}
	stop := w.run()
	<-killed
	stop()
	w.holds(mended)
	if p := w.patch(); p.State != patch.StateIntegrating {
		t.Fatalf("%+v", p)
	}
	w.postCheck = func(flow.Made) (patch.Verdict, error) { return patch.Verdict{Passed: true}, nil }
	if _, err := w.tasks.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.engine = w.newEngine()
	w.run()
	if done := w.await(task.StateDone); done.Attempts != 1 {
		t.Errorf("%+v", done)
	}
	w.holds(mended)
}

// A workspace that is away for a while has its patches wait, whether or not they are
// half integrated.
func TestWorkspaceIsAway(t *testing.T) {
	for name, begun := range map[string]bool{"before": false, "in the middle": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, task.ApprovalOne)
			stop := w.run()
			w.await(task.StateAwaiting)
			p := w.patch()
			stop()
			if err := os.Rename(w.root, w.root+".away"); err != nil {
				t.Fatal(err)
			}
			if _, err := w.patches.Approve(t.Context(), p.ID, p.Hash, "somebody", ""); err != nil {
				t.Fatal(err)
			}
			state := patch.StateApproved
			if begun {
				state = patch.StateIntegrating
				if _, err := w.patches.Begin(t.Context(), p.ID, p.Hash, "flow", "tok"); err != nil {
					t.Fatal(err)
				}
				if _, err := w.tasks.Move(t.Context(), p.Task, task.StateAwaiting, "flow", task.Step{To: task.StateApproved, Why: "approved"}); err != nil {
					t.Fatal(err)
				}
			}
			w.engine = w.newEngine()
			stop = w.run()
			now := w.awaitThat("waits", func(now *task.Task) bool {
				return now.State == task.StateApproved && now.DueAt.After(time.Now().Add(30*time.Second))
			})
			if p := w.patch(); p.State != state || now.Attempts != 1 || !strings.Contains(now.Reason, "is not there") {
				t.Errorf("%+v\n%+v", p, now)
			}
			stop()
			if err := os.Rename(w.root+".away", w.root); err != nil {
				t.Fatal(err)
			}
			w.clock(2 * time.Minute)
			w.engine = w.newEngine()
			w.run()
			if done := w.await(task.StateDone); done.Attempts != 1 || done.Patch != p.ID {
				t.Errorf("%+v", done)
			}
			w.holds(mended)
		})
	}
}

// Somebody makes the same change while a patch waits, or is verified.
func TestChangeIsMadeByHand(t *testing.T) {
	waits := func(w *world) {
		w.run()
		w.await(task.StateAwaiting)
		w.write(mended)
		if _, err := w.patches.Approve(t.Context(), w.patch().ID, w.patch().Hash, "somebody", ""); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		make func(w *world)
		scan func(w *world) func(context.Context) error
	}{
		"while it waits": {waits, func(w *world) func(context.Context) error { return w.scan }},
		"and planned": {waits, func(w *world) func(context.Context) error {
			return func(ctx context.Context) error { // as the host does after a scan
				err := w.scan(ctx)
				_, planned := w.tasks.Plan(ctx, "w")
				return errors.Join(err, planned)
			}
		}},
		"while it is verified": {func(w *world) {
			w.verify = func(context.Context, flow.Check) (patch.Verdict, error) {
				w.write(mended)
				return patch.Verdict{}, sandbox.ErrConflict
			}
			w.run()
		}, func(w *world) func(context.Context) error { return w.scan }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, task.ApprovalOne)
			w.rescan = c.scan(w)
			c.make(w)
			if done := w.await(task.StateDone); done.Attempts != 1 || name != "and planned" && done.Reason != "the workspace has all of it already" {
				t.Errorf("%+v", done)
			}
			if p := w.patch(); p.State != patch.StateSuperseded {
				t.Errorf("%+v", p)
			}
			w.holds(mended)
		})
	}
}

// Cancelling a task ends the work on it.
func TestCancel(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	ended := make(chan error, 1)
	begun := make(chan struct{})
	w.generate = func(ctx context.Context, _ flow.RunRequest, _ string) (*flow.Run, error) {
		close(begun)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}
	w.tasks.SetSettings(shortLease())
	w.run()
	<-begun
	if _, err := w.tasks.Cancel(t.Context(), w.only().ID, "somebody", "no longer wanted"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "no longer wanted") {
		t.Errorf("the work ended because of %v", err)
	}
	w.await(task.StateCancelled)
	w.holds(content)
}

// While everything is halted nothing is begun.
func TestHalted(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	stopped := errors.New("stopped")
	w.halt(stopped)
	if _, err := w.engine.Try(t.Context(), w.only()); !errors.Is(err, stopped) {
		t.Errorf("%v", err)
	}
	stop := w.run()
	_, err := w.engine.Start(t.Context(), w.only().ID, "")
	if err == nil || !errors.Is(err, stopped) && sdk.FromError(err).Reason != "RUNS_BUSY" {
		t.Errorf("%v", err)
	}
	stop()
	if now := w.only(); now.State != task.StateReady {
		t.Errorf("%+v", now)
	}
}

// Halting ends what is under way, gives the task back, and nothing is begun until
// it is lifted.
func TestHalt(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	begun, ended := make(chan struct{}), make(chan error, 1)
	w.generate = func(ctx context.Context, _ flow.RunRequest, _ string) (*flow.Run, error) {
		close(begun)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}
	w.run()
	<-begun
	w.halt(errors.New("stopped"))
	if err := w.engine.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "halted") {
		t.Errorf("the work ended because of %v", err)
	}
	if now := w.only(); now.State != task.StateRunning && now.State != task.StateReady {
		t.Errorf("%+v", now)
	}
	w.awaitThat("was given back", func(now *task.Task) bool { return now.State == task.StateReady && now.Attempts == 0 })
	w.generate = func(_ context.Context, _ flow.RunRequest, now string) (*flow.Run, error) {
		return w.replaces(now, mended), nil
	}
	w.halt(nil)
	w.await(task.StateDone)
}

// Trying leaves everything as it is.
func TestTry(t *testing.T) {
	w := newWorld(t, task.ApprovalAuto)
	run, err := w.engine.Try(t.Context(), w.only())
	if err != nil || run.Outcome != flow.Changed || len(run.Set.Changes) != 1 {
		t.Fatalf("%+v, %v", run, err)
	}
	if err := run.Close(); err != nil {
		t.Error(err)
	}
	w.holds(content)
	if now := w.only(); now.State != task.StateReady || now.Attempts != 0 {
		t.Errorf("%+v", now)
	}
}

// shortLease makes the engine ask soon whether it is to stop.
func shortLease() task.Settings {
	return task.Settings{
		Lease: task.LeastLease, Attempts: 2,
		Rules: []task.Rule{{Name: "all", Route: task.Route{Sandbox: "fake", Approval: task.ApprovalAuto}}},
	}
}
