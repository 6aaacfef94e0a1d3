package startup

import (
	"context"
	"errors"
	"maps"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/protocol"
	"github.com/sop-host/sop/host/internal/task"
	"github.com/sop-host/sop/sdk"
)

// openTasks makes the task service, takes back what the host held when it ended,
// and has lost leases returned until the host stops.
func (h *host) openTasks(ctx context.Context, undo *closers) error {
	h.tasks = task.NewService(h.store.Tasks(), task.Options{
		Settings: taskSettings(h.loaded.Load().config), Publisher: h.publisher(), Now: h.tokens.Now, Trees: trees{h}, Proposals: proposals{h},
		Protocols: h.protocolNames, Unavailable: h.upProtocols.unavailable, Steps: h.packagedSteps, Scaffolds: h.packagedScaffolds,
		Importers: func(ctx context.Context, workspace string) (map[string]int, error) {
			return h.workspaces.importers(ctx, workspace)
		},
	})
	n, err := h.tasks.Recover(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		h.logger.Info("tasks that were under way when the host ended are due again", "tasks", n)
	}
	if err := h.settleMaintenance(ctx); err != nil {
		return err
	}
	undo.add(background(ctx, func(ctx context.Context) {
		h.tasks.Run(ctx, func(err error) { h.logger.Warn("sweep tasks", "error", err) })
	}))
	return nil
}

// protocolNames are the names of the configured protocols.
func (h *host) protocolNames() []string {
	all := h.loaded.Load().config.Protocols
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return names
}

// protocolsEvery is how often is looked which protocols can be used, beside when
// one stands differently: that its plugin is gone is no change of an idle one.
const protocolsEvery = 15 * time.Second

// upProtocols are why protocols cannot be used, as things were a moment ago: tasks
// are asked about within transactions, which wait for nobody.
type upProtocols struct {
	why atomic.Pointer[map[string]string] // by name; empty: it can be used
}

// unavailable says why a protocol cannot be used; empty: it can.
func (u *upProtocols) unavailable(name string) string {
	all := u.why.Load()
	if all == nil {
		return "the host is starting"
	}
	why, known := (*all)[name]
	if !known {
		return "it is not configured any more: take it out of the rule, or cancel the task"
	}
	return why
}

// set takes over how the protocols stand, and says whether that is another way.
func (u *upProtocols) set(all []*protocol.Status) (changed bool) {
	now := make(map[string]string, len(all))
	for _, p := range all {
		now[p.Name] = p.Unusable()
	}
	before := u.why.Swap(&now)
	return before == nil || !maps.Equal(*before, now)
}

// protocolBuffer is how many changes of protocols may wait to be looked at.
const protocolBuffer = 64

// watchProtocols keeps upProtocols up to date until ctx is done, and has what waits
// for protocols looked at.
func (h *host) watchProtocols(ctx context.Context) {
	changes := event.Subscribe[protocol.Changed](&h.bus, protocolBuffer)
	defer func() { changes.Close() }()
	tick := time.NewTicker(protocolsEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if h.upProtocols.set(h.protocols.Standings()) {
			h.tasks.LookAgain()
		}
		select {
		case _, ok := <-changes.C():
			if !ok && errors.Is(changes.Err(), event.ErrClosed) {
				return
			}
			if !ok {
				changes = event.Subscribe[protocol.Changed](&h.bus, protocolBuffer)
			}
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// background runs work until what is returned is called, which waits for it.
func background(ctx context.Context, work func(ctx context.Context)) func() error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(running)
	}()
	return func() error {
		cancel()
		<-done
		return nil
	}
}

// taskSettings are the configured settings.
func taskSettings(cfg *config.Config) task.Settings {
	t := cfg.Tasks
	if t == (config.Tasks{}) {
		t = config.DefaultTasks()
	}
	s := task.Settings{
		Lease: t.Lease, Backoff: task.Backoff{First: t.BackoffMin, Most: t.BackoffMax}, Attempts: t.Attempts, Open: t.Open,
		PerWorkspace: t.PerWorkspace, PerSandbox: t.PerPlugin,
	}
	for i := range cfg.Rules {
		r := &cfg.Rules[i]
		s.Rules = append(s.Rules, task.Rule{
			Name: r.Name, Group: task.Group(r.Group), Most: r.GroupSize,
			Match: task.Match{
				Types: r.Match.Types, Languages: r.Match.Languages, Paths: r.Match.Paths, Rules: r.Match.Rules,
				Workspaces: r.Match.Workspaces, Severity: r.Match.Severity,
			},
			Route: task.Route{
				Sandbox: r.Sandbox, Scaffold: r.Scaffold, Parameters: r.Parameters, Needs: r.Needs,
				Verify: r.Verify, PostCheck: r.PostCheck, Approval: task.Approval(r.Approval),
				Budget: task.Budget{Wall: r.Budget.Wall, Money: r.Budget.Money, ModelTokens: int64(r.Budget.ModelTokens), Attempts: r.Budget.Attempts},
			},
		})
	}
	return s
}

// trees opens the governed workspaces. It implements [task.Trees].
type trees struct{ host *host }

// Root implements [task.Trees].
func (t trees) Root(workspace string) (*os.Root, error) {
	w := t.host.loaded.Load().config.Workspace(workspace)
	if w == nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, "WORKSPACE_UNKNOWN", "there is no workspace %q any more", workspace).
			WithRemedy("put it back into the configuration, or cancel what is to be done in it")
	}
	root, err := os.OpenRoot(w.Path)
	if err != nil {
		return nil, workspaceGone(w.Name, err)
	}
	return root, nil
}

const (
	// planBuffer is how many events the planner may fall behind; one that lags
	// plans allWorkspaces.
	planBuffer = 256
	// planEvery is how often allWorkspaces is planned at least.
	planEvery = 10 * time.Minute
	// planRetry is how long the planner waits after a failure.
	planRetry = 5 * time.Second
)

// planTasks keeps the tasks of all workspaces up to their gaps and to the rules,
// until ctx is done.
func (h *host) planTasks(ctx context.Context) {
	gaps := event.Subscribe[gap.Changed](&h.bus, planBuffer)
	tasks := event.Subscribe[task.Changed](&h.bus, planBuffer)
	defer func() { gaps.Close(); tasks.Close() }()
	tick := time.NewTicker(planEvery)
	defer tick.Stop()
	due := allWorkspaces
	for ctx.Err() == nil {
		reloaded := h.reloaded.Wait()
		if err := h.planSome(ctx, due); err != nil && ctx.Err() == nil {
			h.logger.Warn("plan tasks", "error", err)
			tick.Reset(planRetry)
		}
		due = nil
		select {
		case <-ctx.Done():
		case <-tick.C:
			due = allWorkspaces
			tick.Reset(planEvery)
		case <-reloaded:
			due = allWorkspaces
		case e, ok := <-gaps.C():
			if due = []string{e.Workspace}; !ok {
				if errors.Is(gaps.Err(), event.ErrClosed) {
					return
				}
				gaps, due = event.Subscribe[gap.Changed](&h.bus, planBuffer), allWorkspaces
			}
		case e, ok := <-tasks.C():
			if due = madeRoom(e); !ok {
				if errors.Is(tasks.Err(), event.ErrClosed) {
					return
				}
				tasks, due = event.Subscribe[task.Changed](&h.bus, planBuffer), allWorkspaces
			}
		}
	}
}

// allWorkspaces stands for all workspaces.
var allWorkspaces = []string{""}

// madeRoom returns the workspaces of tasks that ended, so that others can be
// opened, and of those that somebody has put into the backlog.
func madeRoom(e task.Changed) (workspaces []string) {
	for i, c := range e.Changes {
		asked := c.From == "" && c.To == task.StateBacklog && c.By != task.Planner
		if c.From != c.To && c.To.Closed() || asked {
			workspaces = append(workspaces, e.Tasks[i].Workspace)
		}
	}
	return workspaces
}

// planSome plans workspaces, each once.
func (h *host) planSome(ctx context.Context, names []string) error {
	var failed []error
	planned := make(map[string]bool)
	for _, name := range names {
		for _, w := range h.loaded.Load().config.Workspaces {
			if (name != "" && name != w.Name) || planned[w.Name] {
				continue
			}
			planned[w.Name] = true
			done, err := h.tasks.Plan(ctx, w.Name)
			failed = append(failed, err)
			if done != (task.Planned{}) {
				h.logger.Info("tasks planned", "workspace", w.Name, "made", done.Made, "opened", done.Opened, "closed", done.Closed, "rerouted", done.Rerouted)
			}
		}
	}
	return errors.Join(failed...)
}
