package startup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/flow"
	"github.com/sop-host/sop/host/internal/generate"
	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/host/internal/sandbox"
	"github.com/sop-host/sop/host/internal/sandbox/cgroup"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/host/internal/token"
	"github.com/sop-host/sop/host/internal/verify"
	"github.com/sop-host/sop/sdk"
	sandboxkind "github.com/sop-host/sop/sdk/sandbox"
)

// openFlow makes the engine of the loop and what it works with.
func (h *host) openFlow(undo *closers) {
	h.openRunner(undo)
	h.verifier = newVerifier(h.pool, h.runner)
	h.flow = flow.New(flow.Options{
		Tasks: h.tasks, Patches: h.patches, Backups: h.backups, Integrator: h.patches.integrator,
		Generators: generators, Generator: generator{h}, Verifier: verifier{h}, Workspaces: flowWorkspaces{h}, Tokens: flowTokens{h}, Records: flowRecords{h},
		Changed: h.work.Wait, Halted: h.halted, Logger: h.logger.Named("flow"), OnStep: h.onFlowStep, Now: h.tokens.Now,
	})
	h.onHalt(h.flow.Halt)
}

// generators is how many tasks are generated for at a time, whatever the
// configuration lets be.
const generators = 8

// openRunner makes what runs commands in sandboxes, each in a cgroup of its own
// where the kernel lets the host make one. A host that has no launcher goes
// without, and says so when something is to be run.
func (h *host) openRunner(undo *closers) {
	if h.runner, h.runnerErr = sandboxRunner(); h.runnerErr != nil {
		h.logger.Warn("nothing can be run in sandboxes", "error", h.runnerErr)
		return
	}
	runs, err := cgroup.Open(cgroup.Options{Owner: string(h.dir) + " runs", Record: h.dir.join("state", "runs.cgroups")})
	if err != nil {
		h.logger.Warn("prepare cgroups for runs", "error", err)
	}
	h.runner.Cgroups = runs
	undo.add(h.runner.Close)
	if runs != nil {
		undo.add(runs.Close)
	}
}

// startFlow takes up what waits, until the host stops. Nothing is planned before:
// what was rolled back when the host was killed would be made a new task of.
func (h *host) startFlow(ctx context.Context, undo *closers) {
	patches := event.Subscribe[patch.Changed](&h.bus, workBuffer)
	h.followRollbacks(ctx)
	undo.add(background(ctx, h.flow.Run))
	undo.add(background(ctx, func(ctx context.Context) { h.tellWork(ctx, patches) }))
}

// halted says why no work may be begun.
func (h *host) halted() error { return h.emergency.check() }

// workBuffer is how many changes of tasks and patches may wait to be told of.
const workBuffer = 256

// tellWork wakes the engine when a task or a patch has changed, until ctx is
// done.
func (h *host) tellWork(ctx context.Context, patches *event.Subscription[patch.Changed]) {
	tasks := event.Subscribe[task.Changed](&h.bus, workBuffer)
	defer func() { tasks.Close(); patches.Close() }()
	for {
		var more bool
		select {
		case <-ctx.Done():
			return
		case _, more = <-tasks.C():
			if !more && !errors.Is(tasks.Err(), event.ErrClosed) {
				tasks, more = event.Subscribe[task.Changed](&h.bus, workBuffer), true
			}
		case e, ok := <-patches.C():
			if more = ok; ok {
				h.heardOf(ctx, e.Patch)
			}
			if !more && !errors.Is(patches.Err(), event.ErrClosed) {
				patches, more = event.Subscribe[patch.Changed](&h.bus, workBuffer), true
				h.followRollbacks(ctx)
			}
		}
		if !more {
			return
		}
		h.work.Tell()
	}
}

// heardOf follows a change of a patch.
func (h *host) heardOf(ctx context.Context, p *patch.Patch) {
	if p.State == patch.StateRolledBack && p.Task != "" {
		h.followRollback(ctx, p)
		h.workspaces.rescanOne(p.Workspace) // its gaps are there again
	}
}

// followRollbacks moves the tasks of patches that were rolled back and that nobody
// was told of: before the host was killed, or when more happened than tellWork
// could hear.
func (h *host) followRollbacks(ctx context.Context) {
	for f := (patch.Filter{States: []patch.State{patch.StateRolledBack}}); ; {
		page, err := h.patches.List(ctx, f)
		if err != nil {
			h.logger.Warn("look for patches that were rolled back", "error", err)
			return
		}
		for _, p := range page.Patches {
			if p.Task != "" && h.followRollback(ctx, p) {
				h.workspaces.rescanOne(p.Workspace)
			}
		}
		if f.Token = page.Next; f.Token == "" {
			return
		}
	}
}

// followRollback moves the task of a patch that was rolled back, and says whether
// it had to be.
func (h *host) followRollback(ctx context.Context, p *patch.Patch) bool {
	moved, err := h.flow.RolledBack(ctx, p, actorHost)
	if err != nil && ctx.Err() == nil {
		h.logger.Warn("move the task of a patch that was rolled back", "task", p.Task, "patch", p.ID, "error", err)
	}
	return moved
}

// onFlowStep puts what happens to tasks on the timeline: each state, and what a
// person has to know, but not each move of a generator.
func (h *host) onFlowStep(s flow.Step) {
	h.logger.Debug("task", "task", s.Task, "state", s.State, "phase", s.Phase, "detail", s.Detail)
	if s.Phase != "" && s.Remedy == "" {
		return
	}
	phase := string(s.State)
	detail := s.Title
	if first, _, _ := strings.Cut(s.Detail, "\n"); first != "" { // the rest is in the task
		detail += ": " + first
	}
	h.steps.add(Step{Component: "task " + s.Task[:min(len(s.Task), shortID)], Phase: phase, Detail: detail, Remedy: s.Remedy})
}

// shortID is how much of an id names a thing on the timeline.
const shortID = 23 // fewer are the same for what came at once

// flowWorkspaces are the governed trees as the engine sees them.
type flowWorkspaces struct{ host *host }

// Root implements [flow.Workspaces].
func (w flowWorkspaces) Root(name string) (string, error) {
	c, err := w.host.configured(name)
	return c.Path, err
}

// Rescan implements [flow.Workspaces].
func (w flowWorkspaces) Rescan(ctx context.Context, name string) error {
	return w.host.workspaces.rescanned(ctx, name)
}

// rescanned returns when a scan has ended that began after the call, and covered
// what there was to cover.
func (w *workspaces) rescanned(ctx context.Context, name string) error {
	report, err := w.Scan(ctx, name)
	if err != nil {
		return err
	}
	if !report.GetComplete() {
		e := sdk.Errorf(codes.Unavailable, "SCAN_INCOMPLETE", "the scan of workspace %s is not complete, and proves nothing", name).
			WithRemedy("see what keeps it from being complete: sop status")
		e.Retryable = true
		return e
	}
	return nil
}

// flowRecords are the audit log as the engine sees it.
type flowRecords struct{ host *host }

// Integrating implements [flow.Records]: the sequence number of the record, by
// which it is found, and its hash, by which it is known to be that one.
func (f flowRecords) Integrating(ctx context.Context, id string) (string, error) {
	page, err := f.host.audit.List(ctx, audit.Filter{Resource: "patch/" + id, Action: "patch." + string(patch.Integrating), Limit: 1})
	if err != nil {
		return "", fmt.Errorf("look up the record of the integration: %w", err)
	}
	if len(page.Records) == 0 {
		return "", sdk.Errorf(codes.Internal, "AUDIT_UNAVAILABLE", "the log has no record that patch %s is being integrated", id).
			WithRemedy("see whether the log is whole: sop audit verify")
	}
	r := page.Records[0]
	return fmt.Sprintf("%d sha256:%s", r.Seq, r.Hash), nil
}

// flowTokens are issued for what the engine lets others do.
type flowTokens struct{ host *host }

// runUses is how many requests a sandbox plugin may make during one run.
const runUses = 1000

// Run implements [flow.Tokens].
func (f flowTokens) Run(ctx context.Context, plugin string, t *task.Task, life time.Duration) (string, func(), error) {
	secret, issued, err := f.host.tokens.Issue(ctx, token.Spec{
		Type: token.Todo, Protocol: nexus.ProtocolSOP, Requester: nexus.PluginName(sandboxID(plugin)),
		Operations: []string{"audit.append", "maintenance.file", "scaffold.read"}, Workspace: t.Workspace, Task: t.ID,
		TTL: life + grantGrace, MaxUses: runUses, IssuedBy: actorHost, Why: "run of task " + t.ID,
	})
	if err != nil {
		return "", nil, err
	}
	return secret.Reveal(), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grantGrace)
		defer cancel()
		if _, _, err := f.host.tokens.Revoke(ctx, issued.ID, actorHost, "the run has ended"); err != nil {
			f.host.logger.Warn("end the token of a run; it expires by itself", "token", issued.Accessor, "error", err)
		}
	}, nil
}

// sandboxID is what the pool calls a sandbox plugin.
func sandboxID(name string) string { return sandboxkind.Kind.Name + "." + name }

// Integration implements [flow.Tokens].
func (f flowTokens) Integration(ctx context.Context, p *patch.Patch) (string, error) {
	ctx = nexus.WithCaller(ctx, nexus.HostCaller(flow.By))
	secret, err := f.host.door.IssueIntegration(ctx, p.ID)
	if err != nil {
		return "", err
	}
	return f.host.door.PermitIntegration(ctx, p.ID, secret.Reveal())
}

// Rollback implements [flow.Tokens].
func (f flowTokens) Rollback(ctx context.Context, p *patch.Patch) (string, error) {
	return f.host.door.PermitRollback(nexus.WithCaller(ctx, nexus.HostCaller(flow.By)), p.ID)
}

// generator runs sandbox plugins for the engine.
type generator struct{ host *host }

// Run implements [flow.Generator].
func (g generator) Run(ctx context.Context, r flow.RunRequest, progress func(phase, message string)) (*flow.Run, error) {
	if g.host.runnerErr != nil {
		return nil, g.host.runnerErr
	}
	id := sandboxID(r.Plugin)
	profile := g.host.runProfile(id)
	if r.Limit > 0 {
		profile.Limits.Wall = r.Limit
	}
	run, err := (&generate.Runner{Plugins: g.host.pool, Sandbox: g.host.runner}).Run(ctx, generate.Request{
		RunID: r.ID, Plugin: id, Workspace: r.Root, Profile: profile, Task: r.Package, Token: r.Token,
	}, func(e generate.Event) {
		if e.Stream == "" {
			progress(e.Phase, e.Message)
		}
	})
	if err != nil {
		return nil, err
	}
	out := &flow.Run{
		Outcome: flowOutcomes[run.Outcome], Why: run.Explanation, Set: run.Changes, Content: run.Content, Close: run.Close,
	}
	if out.Outcome == "" {
		out.Outcome = flow.Crashed
	}
	if run.Err != nil {
		out.Why = joinSentences(out.Why, run.Err.Message)
	} else if out.Why == "" {
		out.Why = fmt.Sprintf("the run ended: %s", run.Outcome)
	}
	if out.Diff, err = run.Diff(maxShownDiff); err == nil {
		out.Evidence, err = json.Marshal(run)
	}
	if err != nil {
		return nil, errors.Join(err, run.Close())
	}
	return out, nil
}

// verifier tries patches out for the engine.
type verifier struct{ host *host }

// Verify implements [flow.Verifier].
func (v verifier) Verify(ctx context.Context, c flow.Check, progress func(phase, message string)) (patch.Verdict, error) {
	h := v.host
	if h.runnerErr != nil {
		return patch.Verdict{}, h.runnerErr
	}
	cfg := h.loaded.Load().config
	spec, err := verifySpec(cfg, c.Patch.Workspace, c.Steps)
	if err != nil {
		return patch.Verdict{}, err
	}
	spec.Patch = &sandbox.Patch{Set: c.Patch.Set, Content: c.Content}
	if spec.Gaps, err = h.gapsToVerify(ctx, cfg, c.Task); err != nil {
		return patch.Verdict{}, err
	}
	progress("verifying", "by "+strings.Join(stepNames(&spec), ", "))
	verdict, err := h.verifier.Verify(ctx, spec)
	if err != nil {
		return patch.Verdict{}, err
	}
	return flowVerdict(verdict)
}

// Missing implements [flow.Verifier].
func (v verifier) Missing(p *patch.Patch, steps []string) ([]string, error) {
	if len(p.Verdict) == 0 {
		return nil, nil
	}
	spec, err := verifySpec(v.host.loaded.Load().config, p.Workspace, steps)
	if err != nil {
		return nil, err
	}
	var was verify.Verdict
	if err := json.Unmarshal(p.Verdict, &was); err != nil {
		return nil, fmt.Errorf("the verdict of patch %s: %w", p.ID, err)
	}
	return was.Missing(spec.Steps), nil
}

// gapsToVerify are what a patch for a task has to close.
func (h *host) gapsToVerify(ctx context.Context, cfg *config.Config, t *task.Task) (all []verify.Gap, err error) {
	for _, id := range t.Gaps {
		g, err := h.gaps.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		wanted, err := gapToVerify(cfg, string(h.dir), g)
		if err != nil {
			return nil, err
		}
		all = append(all, wanted)
	}
	return all, nil
}

// PostCheck implements [flow.Verifier].
func (v verifier) PostCheck(ctx context.Context, c flow.Made) (flow.Confirmation, error) {
	h := v.host
	if h.runnerErr != nil {
		return flow.Confirmation{}, h.runnerErr
	}
	cfg := h.loaded.Load().config
	spec, err := verifySpec(cfg, c.Patch.Workspace, c.Steps)
	if err != nil {
		return flow.Confirmation{}, err
	}
	if len(c.Steps) == 0 { // which is all of them, to verifySpec
		spec.Steps = nil
	}
	spec.Workspace = c.Root
	if !c.There {
		spec.Patch = &sandbox.Patch{Set: c.Patch.Set, Content: c.Content}
	}
	if c.Confirm {
		if spec.Gaps, err = h.gapsToVerify(ctx, cfg, c.Task); err != nil {
			return flow.Confirmation{}, err
		}
	}
	verdict, err := h.verifier.Check(ctx, spec)
	if err != nil {
		return flow.Confirmation{}, err
	}
	out := flow.Confirmation{}
	for i := range verdict.Steps {
		if s := &verdict.Steps[i]; s.Passed {
			out.By = append(out.By, s.Name)
		}
	}
	out.Verdict, err = flowVerdict(verdict)
	return out, err
}

func flowVerdict(v *verify.Verdict) (patch.Verdict, error) {
	detail, err := json.Marshal(v)
	return patch.Verdict{Passed: v.Passed, CoverageLowered: v.Coverage != nil && v.Coverage.Lowered, Why: v.Why, Detail: detail}, err
}

// stepNames are the names of all that a patch is verified by.
func stepNames(s *verify.Spec) []string {
	names := []string{verify.StepProtected}
	for i := range s.Steps {
		names = append(names, s.Steps[i].Name)
	}
	if len(s.Gaps) > 0 {
		names = append(names, verify.StepGap)
	}
	return names
}

// flowOutcomes are the outcomes of runs as the engine tells them apart; all
// others are crashes to it.
var flowOutcomes = map[generate.Outcome]flow.Outcome{
	generate.Changed: flow.Changed, generate.Rejected: flow.Changed, generate.NothingToDo: flow.Unchanged, generate.NeedsPerson: flow.GaveUp,
	generate.BudgetSpent: flow.NoBudget, generate.TimedOut: flow.NoBudget, generate.BadTask: flow.BadTask,
}

func joinSentences(a, b string) string {
	return strings.Join(slices.DeleteFunc([]string{a, b}, func(s string) bool { return s == "" }), ": ")
}

// runProfile is the profile of a plugin's runs: the one that its block names, or
// the default.
func (h *host) runProfile(id string) sandbox.Profile {
	cfg := h.loaded.Load().config
	name := sandbox.DefaultProfile.Name
	if p := cfg.Plugin(id); p != nil && p.SandboxProfile != "" {
		name = p.SandboxProfile
	}
	if p := cfg.SandboxProfile(name); p != nil {
		return configured(p)
	}
	return sandbox.DefaultProfile
}
