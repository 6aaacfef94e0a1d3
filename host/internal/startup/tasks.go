package startup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/event"
	"github.com/sop-host/sop/host/internal/gap"
	"github.com/sop-host/sop/host/internal/protocol"
	"github.com/sop-host/sop/host/internal/task"
)

// openTasks makes the task service, takes back what the host held when it ended,
// and has lost leases returned until the host stops.
func (h *host) openTasks(ctx context.Context, undo *closers) error {
	h.tasks = task.NewService(h.store.Tasks(), task.Options{
		Settings: taskSettings(h.loaded.Load().config), Publisher: h.publisher(), Now: h.tokens.Now, Trees: trees{h}, Proposals: proposals{h},
		Available: h.upProtocols.has,
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

// protocolsEvery is how often is looked which protocols can be used.
const protocolsEvery = 15 * time.Second

// upProtocols are the protocols that can be used, as they were a moment ago: tasks
// are asked about within transactions, which wait for no plugin.
type upProtocols struct {
	names atomic.Pointer[map[string]bool]
}

func (u *upProtocols) has(name string) bool {
	names := u.names.Load()
	return names != nil && (*names)[name]
}

// watchProtocols keeps upProtocols up to date until ctx is done.
func (h *host) watchProtocols(ctx context.Context) {
	tick := time.NewTicker(protocolsEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		names := make(map[string]bool)
		for _, p := range h.protocols.List(ctx) {
			names[p.Name] = p.State == protocol.StateActive
		}
		h.upProtocols.names.Store(&names)
		select {
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
				Sandbox: r.Sandbox, Scaffold: r.Scaffold, Parameters: r.Parameters,
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
		return nil, fmt.Errorf("there is no workspace %q any more", workspace)
	}
	return os.OpenRoot(w.Path)
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
// opened.
func madeRoom(e task.Changed) (workspaces []string) {
	for i, c := range e.Changes {
		if c.From != c.To && c.To.Closed() {
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
