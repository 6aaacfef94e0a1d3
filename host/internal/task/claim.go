package task

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// ClaimRequest says who wants to work on what.
type ClaimRequest struct {
	Stage     Stage
	By        string        // HostClaimant, or the name of an agent
	ID        string        // reference of one task; empty: the first that is due
	Workspace string        // empty: any
	Lease     time.Duration // 0: as configured
}

// Claim gives a task to whoever asks, under a lease and a new fencing number, and
// returns it; nil: nothing is due, or as many are worked on as may be. A task
// that is named and cannot be claimed is an error that says why.
func (s *Service) Claim(ctx context.Context, req ClaimRequest) (*Task, error) {
	lease, err := s.lease(&req)
	if err != nil {
		return nil, err
	}
	var taken *Task
	err = s.update(ctx, func(w *work) error {
		taken, err = w.claim(ctx, &req, lease)
		return err
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// CheckClaim says what Claim would give, and changes nothing.
func (s *Service) CheckClaim(ctx context.Context, req ClaimRequest) (*Task, error) {
	lease, err := s.lease(&req)
	if err != nil {
		return nil, err
	}
	return s.check(ctx, func(w *work) (*Task, Change, error) {
		t, err := w.claim(ctx, &req, lease)
		return t, Change{}, err
	})
}

func (w *work) claim(ctx context.Context, req *ClaimRequest, lease time.Duration) (*Task, error) {
	c := Candidates{
		Stage: req.Stage, Workspace: req.Workspace, At: w.now,
		Routed: req.ID == "" && req.By == HostClaimant && req.Stage == StageGenerate,
	}
	if req.ID != "" {
		t, err := w.Get(ctx, req.ID)
		if err != nil {
			return nil, err
		}
		c.ID = t.ID
	}
	if err := w.limits(ctx, &c, req.By); err != nil {
		return nil, err
	}
	for range batch { // the next claim goes on
		t, err := w.Take(ctx, c, Claim{By: req.By, Lease: lease, Until: w.now.Add(lease), Why: "claimed by " + req.By})
		switch {
		case err != nil:
			return nil, err
		case t == nil && c.ID != "":
			return nil, w.unclaimable(ctx, &c)
		case t == nil:
			return nil, nil
		}
		waits := w.needed(t)
		switch {
		case len(waits) == 0 || req.Stage != StageGenerate:
			return t, w.claimed(ctx, t)
		case c.ID != "":
			return nil, unavailable(t, waits)
		}
		if err := w.setAside(ctx, t, waits); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// setAside makes a task that Take has just given wait for the protocols that it
// needs and that have gone away since it was opened: it was not worked on.
func (w *work) setAside(ctx context.Context, t *Task, waits []string) error {
	t.State, t.Attempts = t.Before, t.Attempts-1
	t.Holder, t.LeaseUntil = "", time.Time{}
	c, err := t.move(StateBlocked, "", Planner, strings.Join(waits, "; "), w.now)
	if err != nil {
		return err
	}
	return w.put(ctx, t, c)
}

// unavailable is the error for a task that was asked for and whose protocols are
// away.
func unavailable(t *Task, waits []string) error {
	e := sdk.Errorf(codes.FailedPrecondition, ReasonBusy, "task %s %s", t.ID, strings.Join(waits, "; ")).
		WithRemedy("look why with: sop protocol list; claim it when they are available, or claim another")
	e.Retryable = true
	return e
}

// lease is how long the lease is, and checks the request.
func (s *Service) lease(req *ClaimRequest) (time.Duration, error) {
	lease := req.Lease
	if lease == 0 {
		lease = s.settings.Load().Lease
	}
	switch {
	case req.Stage.To() == "":
		return 0, invalid("stage", "there is no stage %q", clip(string(req.Stage), maxRef)).WithRemedy("the stages are %v", Stages())
	case req.By == "":
		return 0, invalid("by", "a task is claimed by somebody")
	case lease < LeastLease || lease > MostLease:
		return 0, invalid("lease", "a lease lasts from %s to %s, not %s", LeastLease, MostLease, lease)
	}
	return lease, nil
}

// limits fills in what is full.
func (w *work) limits(ctx context.Context, c *Candidates, by string) error {
	settings := w.service.settings.Load()
	if c.Stage != StageGenerate || settings.PerWorkspace == 0 && settings.PerSandbox == 0 {
		return nil
	}
	loads, err := w.Loads(ctx)
	if err != nil {
		return err
	}
	workspaces, sandboxes := make(map[string]int), make(map[string]int)
	for _, l := range loads {
		workspaces[l.Workspace] += l.Tasks
		sandboxes[l.Sandbox] += l.Tasks
	}
	delete(workspaces, "")
	c.FullWorkspaces = full(workspaces, settings.PerWorkspace)
	if by == HostClaimant {
		delete(sandboxes, "")
		c.FullSandboxes = full(sandboxes, settings.PerSandbox)
	}
	return nil
}

func full(held map[string]int, most int) []string {
	var out []string
	for name, n := range held {
		if most > 0 && n >= most {
			out = append(out, name)
		}
	}
	return out
}

// unclaimable says why the task that was asked for could not be taken.
func (w *work) unclaimable(ctx context.Context, c *Candidates) error {
	t, err := w.Get(ctx, c.ID)
	if err != nil {
		return err
	}
	waits := false
	for _, from := range c.Stage.From() {
		waits = waits || t.State == from
	}
	switch {
	case t.State.Held():
		return sdk.Errorf(codes.Aborted, ReasonBusy, "task %s is %s by %s until %s", t.ID, t.State, t.Holder, t.LeaseUntil.Format(time.RFC3339)).
			WithRemedy("claim another, or wait")
	case !waits:
		return t.cannot(c.Stage.To())
	case t.DueAt.After(c.At):
		return notDue(t, c.At)
	case c.Workspace != "" && c.Workspace != t.Workspace:
		return invalid("workspace", "task %s is of the workspace %s", t.ID, t.Workspace)
	}
	e := sdk.Errorf(codes.Aborted, ReasonBusy, "as many tasks of workspace %s are being worked on as may be", t.Workspace).
		WithRemedy("wait until one has ended, or raise `tasks { concurrency { … } }`")
	e.Retryable = true
	return e
}

// claimed records a claim that Take has made.
func (w *work) claimed(ctx context.Context, t *Task) error {
	change := Change{
		TaskID: t.ID, Workspace: t.Workspace, Action: actionOf(t.Before, t.State), At: t.ChangedAt, From: t.Before, To: t.State, By: t.Holder,
		Why: fmt.Sprintf("%s, until %s", t.Reason, t.LeaseUntil.Format(time.RFC3339)), Fence: t.Fence,
	}
	if t.State == StateLeased {
		change.Why += fmt.Sprintf(", attempt %d of %d", t.Attempts, t.MaxAttempts)
	}
	if err := w.Put(ctx, nil, []Change{change}); err != nil {
		return err
	}
	return w.follow(ctx, t, change)
}

// Beat is what a holder is answered to a heartbeat.
type Beat struct {
	Until time.Time // the lease ends
	Stop  string    // the work is to end, and why; empty: go on
}

// Heartbeat renews a lease. Who holds a task that has been cancelled, or has
// ended by itself, is told to stop; whoever has lost the lease gets an error with
// [ReasonFence].
func (s *Service) Heartbeat(ctx context.Context, h Hold) (beat Beat, err error) {
	err = s.store.Update(ctx, func(tx Tx) error {
		beat = Beat{}
		t, err := tx.Renew(ctx, h, s.now())
		if err != nil {
			return err
		}
		if t != nil {
			beat.Until = t.LeaseUntil
			return nil
		}
		if t, err = tx.Get(ctx, h.ID); err != nil {
			return err
		}
		if t.State.Closed() && t.Fence == h.Fence {
			beat.Stop = fmt.Sprintf("the task is %s: %s", t.State, t.Reason)
			return nil
		}
		return stale(t, h)
	})
	return beat, err
}

// CheckHold says whether a task is held so, and changes nothing.
func (s *Service) CheckHold(ctx context.Context, h Hold) (*Task, error) {
	t, err := s.store.Get(ctx, h.ID)
	if err == nil && !t.holds(h, s.now()) {
		return nil, stale(t, h)
	}
	return t, err
}

// held returns the task of a holding, or why it is not held so.
func (w *work) held(ctx context.Context, h Hold) (*Task, error) {
	t, err := w.Get(ctx, h.ID)
	if err != nil {
		return nil, err
	}
	if !t.holds(h, w.now) {
		return nil, stale(t, h)
	}
	return t, nil
}

// holds says whether the task is held so at a time.
func (t *Task) holds(h Hold, at time.Time) bool {
	return t.State.Held() && t.Fence == h.Fence && t.Holder == h.By && at.Before(t.LeaseUntil)
}

// Step is a transition that a holder, or whoever decides, makes.
type Step struct {
	To  State
	Why string
	// Patch and Feedback replace those of the task, unless they are empty.
	Patch, Feedback string
	// Elsewhere says that what was done is not in the workspace but in a branch or
	// a file: done does not wait for the gaps, and they wait for a scan.
	Elsewhere bool
}

func (step *Step) onto(t *Task) {
	if step.Patch != "" {
		t.Patch = step.Patch
	}
	if step.Feedback != "" {
		t.Feedback = clipText(step.Feedback, maxFeedback)
	}
}

// Bounds on texts, in bytes.
const (
	maxFeedback = 16 << 10
	maxWhy      = 1024
)

// Advance takes a task on, for who holds it. Leaving the states in which a task is
// held gives the lease up. Done is refused while a gap of the task is not gone.
func (s *Service) Advance(ctx context.Context, h Hold, step Step) (*Task, error) {
	return s.act(ctx, func(w *work) (*Task, Change, error) {
		t, err := w.held(ctx, h)
		if err != nil {
			return nil, Change{}, err
		}
		if step.To == StateDone && !step.Elsewhere {
			if err := w.gone(ctx, t); err != nil {
				return nil, Change{}, err
			}
		}
		c, err := w.step(t, h.By, step)
		return t, c, err
	})
}

// step makes a transition. What is to be worked on again, as often as it may be
// or not at all, goes the way of failures.
func (w *work) step(t *Task, by string, step Step) (Change, error) {
	step.onto(t)
	if step.To == StateFailed || step.To == StateReady && t.Attempts >= t.MaxAttempts {
		return w.fail(t, by, Failure{Why: step.Why, Feedback: step.Feedback})
	}
	return t.move(step.To, "", by, clipText(step.Why, maxWhy), w.now)
}

// gone refuses while a gap of the task is there.
func (w *work) gone(ctx context.Context, t *Task) error {
	gaps, err := w.Gaps(ctx, t.Gaps)
	if err != nil {
		return err
	}
	if ids := live(gaps); len(ids) > 0 {
		return sdk.Errorf(codes.FailedPrecondition, ReasonGapsLive, "task %s is not done: %d of its gaps are still there, such as %s", t.ID, len(ids), ids[0]).
			WithRemedy("scan the workspace; only a scan proves that a gap is gone")
	}
	return nil
}

// act runs one transaction that changes one task, and returns it.
func (s *Service) act(ctx context.Context, change changing) (*Task, error) {
	var done *Task
	err := s.update(ctx, func(w *work) error {
		t, c, err := change(w)
		if err != nil {
			return err
		}
		done = t
		return w.put(ctx, t, c)
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

// Failure is why work on a task did not come to anything.
type Failure struct {
	Why      string
	Feedback string // for the next attempt; empty: Why
	Final    bool   // another attempt would not do either
}

// Fail ends the holding: the task is tried again after a while, unless that is
// final or it was tried as often as it may be.
func (s *Service) Fail(ctx context.Context, h Hold, f Failure) (*Task, error) {
	return s.act(ctx, func(w *work) (*Task, Change, error) {
		t, err := w.held(ctx, h)
		if err != nil {
			return nil, Change{}, err
		}
		c, err := w.fail(t, h.By, f)
		return t, c, err
	})
}

// fail moves a task to failed or dead.
func (w *work) fail(t *Task, by string, f Failure) (Change, error) {
	if f.Feedback == "" {
		f.Feedback = f.Why
	}
	t.Feedback = clipText(f.Feedback, maxFeedback)
	why := clipText(f.Why, maxWhy)
	if f.Final || t.Attempts >= t.MaxAttempts {
		if !f.Final {
			why = fmt.Sprintf("%s (attempt %d of %d)", why, t.Attempts, t.MaxAttempts)
		}
		return t.move(StateDead, "", by, why, w.now)
	}
	t.DueAt = w.now.Add(w.service.settings.Load().Backoff.after(max(t.Attempts, 1)))
	return t.move(StateFailed, "", by, why, w.now)
}

// Release gives a lease back: the task is as it was before it was claimed, and the
// attempt does not count.
func (s *Service) Release(ctx context.Context, h Hold, why string) (*Task, error) {
	return s.Postpone(ctx, h, why, 0)
}

// Postpone releases a task that is due again after a while.
func (s *Service) Postpone(ctx context.Context, h Hold, why string, after time.Duration) (*Task, error) {
	return s.act(ctx, func(w *work) (*Task, Change, error) {
		t, err := w.held(ctx, h)
		if err != nil {
			return nil, Change{}, err
		}
		to := t.State.fallback()
		if to == StateReady {
			t.Attempts = max(0, t.Attempts-1)
		}
		c, err := t.move(to, ActionReleased, h.By, clipText(why, maxWhy), w.now)
		t.DueAt = w.now.Add(after)
		return t, c, err
	})
}

// Integrated says that the patch is in the workspace: the task stays as it is, and
// its gaps wait for the scan that decides.
func (s *Service) Integrated(ctx context.Context, h Hold) (*Task, error) {
	return s.act(ctx, func(w *work) (*Task, Change, error) {
		t, err := w.held(ctx, h)
		if err != nil {
			return nil, Change{}, err
		}
		if t.State != StateIntegrating {
			return nil, Change{}, t.cannot(StateIntegrating)
		}
		const why = "the patch is in the workspace; a scan decides"
		c := t.note(ActionApplied, h.By, why, w.now)
		return t, c, w.MoveGaps(ctx, t.Gaps, "verifying", "task "+t.ID, why, w.now)
	})
}
