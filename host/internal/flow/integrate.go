package flow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/integration"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/task"
)

// integrate puts an approved patch into its workspace, with a backup on disk
// before, and has a rescan prove that the gap is gone. A host that was killed in
// between comes here again: how far it was, patch and journal say.
func (e *Engine) integrate(ctx context.Context, t *task.Task) error {
	p, err := e.opt.Patches.Get(ctx, t.Patch)
	if err != nil {
		return err
	}
	root, err := e.opt.Workspaces.Root(t.Workspace)
	if err != nil {
		return err
	}
	if p.State == patch.StateIntegrating {
		if p, err = e.resume(ctx, p, root); isReason(err, reasonAway) {
			return e.waitForWorkspace(ctx, t, err) // nobody knows how far it was
		} else if err != nil {
			return e.integrationFailed(ctx, t, p, root, err)
		}
	}
	if p, err = e.keepUp(ctx, t, p); err != nil {
		return err
	}
	if to := behind(p); to != nil {
		return e.sendBack(ctx, t, p, to)
	}
	if p.State == patch.StateApproved {
		if p, err = e.putIn(ctx, t, p); err != nil {
			return e.integrationFailed(ctx, t, p, root, err)
		}
	}
	if p.State != patch.StateIntegrated {
		return e.fail(ctx, t, task.Failure{Why: fmt.Sprintf("patch %s is %s and cannot be integrated", p.ID, p.State)})
	}
	return e.confirm(ctx, t, p)
}

// unapproved sends a task back whose patch lost its approval while it was integrated.
func (e *Engine) unapproved(ctx context.Context, t *task.Task, p *patch.Patch, why error) error {
	p, err := e.keepUp(ctx, t, p)
	if err != nil {
		return err
	}
	if to := behind(p); to != nil {
		return e.sendBack(ctx, t, p, to)
	}
	return why // it has it again: given back, and claimed again
}

// sendBack takes a task back whose patch is not approved any more.
func (e *Engine) sendBack(ctx context.Context, t *task.Task, p *patch.Patch, to *task.Step) error {
	if to.To == task.StateAwaiting {
		return e.await(ctx, t, p, to.Why)
	}
	return e.advance(ctx, t, *to)
}

// resume finds out what became of an integration that was cut short. The workspace
// may not have been there when the host started and recovered journals.
func (e *Engine) resume(ctx context.Context, p *patch.Patch, root string) (*patch.Patch, error) {
	if _, err := e.opt.Integrator.Recover(ctx, root); err != nil {
		return p, err
	}
	state, err := e.opt.Integrator.State(ctx, root, p.ID)
	if err != nil {
		return p, err
	}
	switch state {
	case integration.StateIntegrated:
		done := patch.Done{Mode: string(integration.WorkTree)}
		if snapshots, err := e.opt.Backups.ForPatch(ctx, p.ID); err == nil && len(snapshots) > 0 {
			done.Backup = snapshots[0].ID
		}
		return e.opt.Patches.Integrated(ctx, p.ID, By, done)
	case integration.StateConflict:
		return p, errConflict
	}
	return e.opt.Patches.Undone(ctx, p.ID, By, "the host was ended while it integrated; nothing was changed")
}

// errConflict says that journal and workspace disagree: a person has to look.
var errConflict = errors.New("journal and workspace disagree")

// putIn integrates an approved patch under a token of its own.
func (e *Engine) putIn(ctx context.Context, t *task.Task, p *patch.Patch) (*patch.Patch, error) {
	accessor, err := e.opt.Tokens.Integration(ctx, p)
	if err != nil {
		return p, err
	}
	if p, err = e.opt.Patches.Begin(ctx, p.ID, p.Hash, By, accessor); err != nil {
		return p, err
	}
	request, err := e.opt.Patches.Request(p)
	if err != nil {
		return p, err
	}
	if request.Mode != integration.WorkTree { // which bears no trailers
		record, err := e.opt.Records.Integrating(ctx, p.ID)
		if err != nil {
			return p, err
		}
		request.Trailers = append(request.Trailers, integration.Trailer{Key: "Sop-Audit", Value: record})
	}
	var snapshot *backup.Snapshot
	request.Before = func(ctx context.Context) (err error) {
		if request.Mode == integration.WorkTree { // otherwise it stays as it is
			snapshot, err = e.save(ctx, t, p)
		}
		if err != nil {
			return err
		}
		return e.stands(ctx, t, p)
	}
	inspection := e.inspect(t, p, &request)
	if inspection != nil {
		request.Check = inspection.check
	}
	result, err := e.opt.Integrator.Integrate(ctx, request)
	if err != nil {
		return p, err
	}
	done := patch.Done{Mode: string(result.Mode), Commit: result.Commit, Branch: result.Branch, File: result.File, Notes: result.Notes}
	if snapshot != nil {
		done.Backup = snapshot.ID
	}
	if note := inspection.note(); note != "" {
		done.Notes = append(done.Notes, note)
	}
	return e.opt.Patches.Integrated(ctx, p.ID, By, done)
}

// An inspection looks at what was changed before that is settled, and remembers
// what has confirmed it.
type inspection struct {
	engine  *Engine
	task    *task.Task
	patch   *patch.Patch
	request *integration.Request
	by      []string
}

// inspect returns what looks at the outcome of a request; nil where nothing is to be
// looked at now. A scan looks at workspaces; nothing else does at branches and patch
// files.
func (e *Engine) inspect(t *task.Task, p *patch.Patch, request *integration.Request) *inspection {
	if request.Mode == integration.WorkTree && len(e.opt.Tasks.Route(t).PostCheck) == 0 {
		return nil
	}
	return &inspection{engine: e, task: t, patch: p, request: request}
}

// check is for [integration.Request.Check].
func (i *inspection) check(ctx context.Context, tree string) error {
	e, steps := i.engine, i.engine.opt.Tasks.Route(i.task).PostCheck
	made := Made{
		Check: Check{Task: i.task, Patch: i.patch, Content: i.request.Content, Root: tree, Steps: steps},
		There: tree != "", Confirm: i.request.Mode != integration.WorkTree,
	}
	if tree == "" {
		made.Root = i.request.Root
	}
	what := strings.Join(steps, ", ")
	if made.Confirm && len(i.task.Gaps) > 0 {
		what = strings.Join(append([]string{"the detectors"}, steps...), ", ")
	} else if len(steps) == 0 {
		return nil // a task of no gap, and a rule that asks for nothing
	}
	e.tell(i.task, Step{Phase: "post-check", Detail: what})
	found, err := e.opt.Verifier.PostCheck(ctx, made)
	if err == nil && !found.Passed {
		err = postCheckError{found.Why}
	}
	if err != nil {
		return err
	}
	i.by = found.By
	return e.stands(ctx, i.task, i.patch)
}

// note says what has confirmed what is in no workspace; "" where nothing has.
func (i *inspection) note() string {
	if i == nil || len(i.by) == 0 || i.request.Mode == integration.WorkTree {
		return ""
	}
	return "confirmed on what was handed over, before that: " + strings.Join(i.by, ", ")
}

// postCheckError says what a post-check has found.
type postCheckError struct{ why string }

// Error implements error.
func (e postCheckError) Error() string { return "post-check failed: " + e.why }

// save keeps what a patch replaces. It returns nil where there is nothing.
func (e *Engine) save(ctx context.Context, t *task.Task, p *patch.Patch) (*backup.Snapshot, error) {
	paths := replaced(p.Set)
	if len(paths) == 0 {
		return nil, nil //nolint:nilnil // there is nothing to keep, and nothing is wrong
	}
	what := fmt.Sprintf("%d paths", len(paths))
	if len(paths) == 1 {
		what = "1 path"
	}
	e.tell(t, Step{Phase: "backup", Detail: what})
	return e.opt.Backups.Save(ctx, backup.SaveRequest{
		Workspace: p.Workspace, Paths: paths, Reason: backup.ForIntegration, Task: t.ID, Patch: p.ID, By: By, Whole: true,
	})
}

// replaced are the paths that a change set finds and does not leave as they are.
func replaced(set *sandbox.ChangeSet) []string {
	var paths []string
	for _, c := range set.Changes {
		if c.OldSHA256 != "" || c.OldDir || c.Op == sandbox.OpDelete {
			paths = append(paths, c.Path)
		}
	}
	return paths
}

// Reasons of errors that package integration documents.
const (
	reasonBaseMoved = "INTEGRATION_BASE_MOVED"
	reasonConflict  = "INTEGRATION_CONFLICT"
	reasonBusy      = "INTEGRATION_BUSY"
	reasonDirty     = "INTEGRATION_DIRTY"
	reasonAway      = "INTEGRATION_WORKSPACE_AWAY"
)

// integrationFailed does with a task what an integration has come to that left
// the workspace as it was.
func (e *Engine) integrationFailed(ctx context.Context, t *task.Task, p *patch.Patch, root string, why error) error {
	if ctx.Err() != nil || lost(why) {
		return why // patch and journal say how far it was, to whoever goes on
	}
	if errors.Is(why, errConflict) || isReason(why, reasonConflict) {
		e.tell(t, Step{Phase: "conflict", Detail: plain(why), Remedy: "sop patch show " + p.ID})
		return e.fail(ctx, t, task.Failure{Why: "a person has to look: " + plain(why), Final: true})
	}
	if p.State == patch.StateIntegrating {
		var err error
		if p, err = e.opt.Patches.Undone(ctx, p.ID, By, plain(why)); err != nil {
			return errors.Join(why, err)
		}
	}
	switch {
	case isReason(why, reasonBaseMoved):
		return e.rebase(ctx, t, p, root)
	case isReason(why, reasonBusy):
		return why // given back, and claimed again
	case isReason(why, reasonDirty):
		return e.waitForClean(ctx, t, why)
	case isReason(why, reasonAway):
		return e.waitForWorkspace(ctx, t, why)
	case isReason(why, patch.ReasonUnapproved):
		return e.unapproved(ctx, t, p, why)
	}
	if failed := (postCheckError{}); errors.As(why, &failed) {
		return e.fail(ctx, t, task.Failure{Why: "taken back: " + failed.Error(), Feedback: failed.Error()})
	}
	return e.fail(ctx, t, task.Failure{Why: "not integrated: " + plain(why), Final: !temporary(why)})
}

// dirtyWait is how long somebody has to commit what is under way, before the patch
// is tried again.
const dirtyWait = 5 * time.Minute

// waitForClean leaves an approved patch until files that it replaces have no edits
// that nobody has committed.
func (e *Engine) waitForClean(ctx context.Context, t *task.Task, why error) error {
	return e.wait(ctx, t, dirtyWait, Step{
		Phase: "waiting", Detail: plain(why), Remedy: "commit those edits or take them back; the patch is tried again every five minutes",
	})
}

// awayWait is how long a workspace that is not there has to come back, before the
// patch is tried again.
const awayWait = time.Minute

// waitForWorkspace leaves an approved patch until its workspace is there.
func (e *Engine) waitForWorkspace(ctx context.Context, t *task.Task, why error) error {
	return e.wait(ctx, t, awayWait, Step{Phase: "waiting", Detail: plain(why), Remedy: "bring the workspace back; the patch is tried again every minute"})
}

// wait gives a task back for a while, with what is told of that.
func (e *Engine) wait(ctx context.Context, t *task.Task, after time.Duration, told Step) error {
	e.order.Lock()
	defer e.order.Unlock()
	moved, err := e.opt.Tasks.Postpone(ctx, t.Hold(), told.Detail, after)
	if err != nil {
		return err
	}
	*t = *moved
	e.tell(t, told)
	return nil
}

// confirm has the workspace scanned again: gone, the task is done; still there,
// the patch is rolled back.
func (e *Engine) confirm(ctx context.Context, t *task.Task, p *patch.Patch) error {
	moved, err := e.opt.Tasks.Integrated(ctx, t.Hold())
	if err != nil {
		return err
	}
	*t = *moved
	e.tell(t, Step{Phase: "integrated", Detail: "the rescan decides"})
	if p.Done.Mode != string(integration.WorkTree) {
		return e.done(ctx, t, p, task.Step{To: task.StateDone, Why: "handed over: " + handedOver(p), Elsewhere: true})
	}
	if err := e.opt.Workspaces.Rescan(ctx, t.Workspace); err != nil {
		return fmt.Errorf("confirm by a rescan: %w", err) // nothing is known; it is tried again
	}
	live, err := e.opt.Tasks.GapsLive(ctx, t.ID)
	if err != nil {
		return err
	}
	if len(live) == 0 {
		return e.done(ctx, t, p, task.Step{To: task.StateDone, Why: "the rescan confirms that the gap is gone"})
	}
	if p, err = e.opt.Patches.Get(ctx, p.ID); err != nil {
		return err
	}
	if to := behind(p); to != nil { // somebody has taken it back meanwhile
		return e.advance(ctx, t, *to)
	}
	why := fmt.Sprintf("after the integration %d of its gaps are still there: %s", len(live), strings.Join(live, ", "))
	return e.undo(ctx, t, p, why)
}

// done ends a task with a patch that is where it belongs. Who took that back while
// the task was not done yet was not heard.
func (e *Engine) done(ctx context.Context, t *task.Task, p *patch.Patch, s task.Step) error {
	if err := e.advance(ctx, t, s); err != nil {
		return err
	}
	p, err := e.opt.Patches.Get(ctx, p.ID)
	if err == nil && p.State == patch.StateRolledBack {
		_, err = e.RolledBack(ctx, p, By)
	}
	return err
}

// handedOver says where a patch went that did not go into the work tree.
func handedOver(p *patch.Patch) string {
	where := p.Done.Mode
	switch {
	case p.Done.Commit != "":
		where = fmt.Sprintf("commit %s on branch %s", p.Done.Commit, p.Done.Branch)
	case p.Done.File != "":
		where = p.Done.File
	}
	return strings.Join(append([]string{where}, p.Done.Notes...), "; ")
}

// undo rolls a patch back that did not do what it was for, and has the task done
// anew with what is known now.
func (e *Engine) undo(ctx context.Context, t *task.Task, p *patch.Patch, why string) error {
	if err := e.rollBack(ctx, t, p, why); err != nil {
		if ctx.Err() != nil || temporary(err) {
			return err
		}
		e.tell(t, Step{Phase: "conflict", Detail: "not rolled back: " + plain(err), Remedy: "sop patch show " + p.ID})
		return e.fail(ctx, t, task.Failure{Why: why + "; and it could not be rolled back: " + plain(err), Final: true})
	}
	if err := e.advance(ctx, t, task.Step{To: task.StateRolledBack, Why: why, Feedback: why}); err != nil {
		return err
	}
	return e.again(ctx, t, why)
}

// rollBack takes a patch back under a token of its own.
func (e *Engine) rollBack(ctx context.Context, t *task.Task, p *patch.Patch, why string) error {
	accessor, err := e.opt.Tokens.Rollback(ctx, p)
	if err != nil {
		return err
	}
	_, how, err := e.opt.Patches.Rollback(ctx, p.ID, patch.RollbackRequest{By: By, Why: why, Token: accessor})
	if err == nil && how.From != "" {
		e.tell(t, Step{Phase: "rollback", Detail: "what was replaced is back, from the " + how.From})
	}
	return err
}

// again has a task done anew that was rolled back; with its attempts spent it
// stays down.
func (e *Engine) again(ctx context.Context, t *task.Task, why string) error {
	e.order.Lock()
	defer e.order.Unlock()
	moved, err := e.opt.Tasks.Move(ctx, t.ID, task.StateRolledBack, By, task.Step{To: task.StateReady, Why: why})
	if err != nil {
		return err
	}
	*t = *moved
	e.tell(t, Step{Detail: why})
	return nil
}
