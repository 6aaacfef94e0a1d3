package startup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/sop-host/sop/host/internal/backup"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/integration"
	"github.com/sop-host/sop/host/internal/patch"
	"github.com/sop-host/sop/sdk"
)

// patches are the patches with what takes them into workspaces and out again.
type patches struct {
	*patch.Service
	integrator *integration.Integrator
	workspace  func(name string) (config.Workspace, error)
	backups    func() *backup.Service // not before it is there
	dir        dataDir
	logger     hclog.Logger
	changed    func() // the status has

	mu       sync.Mutex
	problems map[string]string // what nobody can recover, by workspace and integration
}

// pruneEvery is how often what is no longer needed is looked for.
const pruneEvery = 6 * time.Hour

// openPatches makes the service, and brings what a crash has left half integrated
// to rest before anything looks at the workspaces.
func (h *host) openPatches(ctx context.Context, undo *closers, first *loaded) error {
	service, err := patch.NewService(h.store.Patches(), patch.Options{Dir: h.dir.patches(), Publisher: h.publisher(), Now: h.tokens.Now, Revoked: h.agentRevoked})
	if err != nil {
		return err
	}
	undo.add(service.Close)
	h.patches = &patches{
		Service: service, integrator: integration.New(integration.Options{Now: h.tokens.Now}), workspace: h.configured, dir: h.dir,
		backups: func() *backup.Service { return h.backups },
		logger:  h.logger.Named("patch"), changed: h.changed.Tell, problems: make(map[string]string),
	}
	for _, w := range first.config.Workspaces {
		if err := h.patches.settle(ctx, w, patch.StateIntegrating, patch.StateIntegrated); err != nil {
			return err
		}
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.patches.prune(running, func() []config.Workspace { return h.loaded.Load().config.Workspaces })
	}()
	undo.add(func() error {
		cancel()
		<-done
		return nil
	})
	return nil
}

// configured returns a workspace of the configuration in force.
func (h *host) configured(name string) (config.Workspace, error) {
	all := h.loaded.Load().config.Workspaces
	if i := slices.IndexFunc(all, func(w config.Workspace) bool { return w.Name == name }); i >= 0 {
		return all[i], nil
	}
	_, err := h.workspaces.named(name) // says what there is
	return config.Workspace{}, err
}

// come settles the workspaces that a reload adds, or that are elsewhere now, before
// anything looks at them. What is being integrated into one that is elsewhere the
// engine may be at, where it was.
func (p *patches) come(ctx context.Context, before, now []config.Workspace) {
	for _, w := range now {
		states := []patch.State{patch.StateIntegrated}
		i := slices.IndexFunc(before, func(was config.Workspace) bool { return was.Name == w.Name })
		switch {
		case i < 0:
			states = append(states, patch.StateIntegrating)
		case before[i].Path == w.Path:
			continue
		}
		if err := p.settle(ctx, w, states...); err != nil {
			p.logger.Warn("look whether something is half integrated", "workspace", w.Name, "error", err)
		}
	}
}

// settle brings the journal of a workspace to rest, and makes its patches that are
// in one of the states say what that says.
func (p *patches) settle(ctx context.Context, w config.Workspace, states ...patch.State) error {
	if err := p.recover(ctx, w); err != nil {
		return err
	}
	return p.agree(ctx, w, states)
}

// recover brings the journal of one workspace to rest. What takes a person stands
// in the status; a workspace that is not there is told when it is scanned.
func (p *patches) recover(ctx context.Context, w config.Workspace) error {
	found, err := p.integrator.Recover(ctx, w.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		p.problem(w.Name, "", sdk.FromError(err).Message)
	}
	for _, r := range found {
		switch r.State {
		case integration.StateConflict:
			p.problem(w.Name, r.ID, r.Conflict)
		case integration.StateUndone:
			p.logger.Warn("an integration that was not finished was taken back", "workspace", w.Name, "patch", r.ID, "notes", strings.Join(r.Notes, "; "))
		}
	}
	return nil
}

func (p *patches) problem(workspace, id, why string) {
	p.mu.Lock()
	p.problems[workspace+"/"+id] = fmt.Sprintf("workspace %s: %s", workspace, why)
	p.mu.Unlock()
	p.logger.Error("an integration cannot be recovered", "workspace", workspace, "patch", id, "why", why)
	p.changed()
}

// reasons are what stands in the status, sorted.
func (p *patches) reasons() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, why := range p.problems {
		all = append(all, why)
	}
	slices.Sort(all)
	return all
}

// agree makes the states of a workspace's patches say what its journal says.
func (p *patches) agree(ctx context.Context, w config.Workspace, states []patch.State) error {
	for f := (patch.Filter{Workspace: w.Name, States: states}); ; {
		page, err := p.List(ctx, f)
		if err != nil {
			return err
		}
		for _, one := range page.Patches {
			if err := p.agreeOn(ctx, w, one); err != nil {
				return fmt.Errorf("patch %s: %w", one.ID, err)
			}
		}
		if f.Token = page.Next; f.Token == "" {
			return nil
		}
	}
}

func (p *patches) agreeOn(ctx context.Context, w config.Workspace, one *patch.Patch) error {
	state, err := p.integrator.State(ctx, w.Path, one.ID)
	if err != nil {
		p.logger.Warn("the journal of a workspace cannot be read", "workspace", w.Name, "patch", one.ID, "error", err)
		return nil
	}
	switch {
	case state == integration.StateConflict:
		return nil // it stands in the status, and nothing is said until somebody has looked
	case one.State == patch.StateIntegrated && state == integration.StateRolledBack:
		err = p.rolledBack(ctx, one.ID)
	case one.State != patch.StateIntegrating:
	case state == integration.StateIntegrated:
		_, err = p.Integrated(ctx, one.ID, actorHost, patch.Done{Backup: one.Backup, Mode: string(integration.WorkTree)})
	default:
		_, err = p.Undone(ctx, one.ID, actorHost, "it was not finished when the host ended")
	}
	return err
}

// rolledBack says of a patch that it was taken back when the host ended, under the
// token of whoever had begun that.
func (p *patches) rolledBack(ctx context.Context, id string) error {
	one, err := p.Get(ctx, id)
	if err != nil {
		return err
	}
	how := patch.Reversal{}
	for _, c := range one.History {
		if c.Action == patch.RollingBack {
			how.Token = c.Token
		}
	}
	_, err = p.RolledBack(ctx, id, actorHost, "it was being rolled back when the host ended", how)
	return err
}

// Request is how a patch is integrated, as the configuration of its workspace says.
// Whoever integrates adds Before, Check and Trailers.
func (p *patches) Request(one *patch.Patch) (integration.Request, error) {
	w, err := p.workspace(one.Workspace)
	if err != nil {
		return integration.Request{}, err
	}
	i := w.Integration
	dir := i.Directory
	if dir == "" {
		dir = p.dir.patchFiles()
	}
	task := one.Task
	if task == "" {
		task = one.ID
	}
	title := one.Title
	if title == "" {
		title = "SOP patch " + one.ID
	}
	return integration.Request{
		Root: w.Path, ID: one.ID, Set: one.Set, Content: p.Content(one), Mode: integration.Mode(i.Mode), AllowDirty: i.Dirty == config.DirtyAllow,
		Branch: strings.NewReplacer("{task}", task, "{patch}", one.ID).Replace(i.Branch), Dir: dir, Message: title, Author: i.Author,
		Trailers: []integration.Trailer{{Key: "Sop-Task", Value: one.Task}, {Key: "Sop-Patch", Value: one.ID}},
	}, nil
}

// prune drops what is no longer needed, regularly.
func (p *patches) prune(ctx context.Context, workspaces func() []config.Workspace) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if freed, err := p.Prune(ctx); err != nil && ctx.Err() == nil {
			p.logger.Warn("drop the content of old patches", "error", err)
		} else if freed > 0 {
			p.logger.Info("the content of old patches was dropped", "bytes", freed)
		}
		for _, w := range workspaces() {
			if err := p.forget(ctx, w); err != nil && ctx.Err() == nil {
				p.logger.Warn("forget what was replaced long ago", "workspace", w.Name, "error", err)
			}
		}
	}
}

// forget removes what is kept beside a workspace to take patches back that were
// integrated long ago, or are through.
func (p *patches) forget(ctx context.Context, w config.Workspace) error {
	found, err := p.integrator.Recover(ctx, w.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var failed []error
	for _, r := range found {
		if r.State == integration.StateConflict {
			continue
		}
		one, err := p.Get(ctx, r.ID)
		old := errors.Is(err, patch.ErrNotFound)
		if err == nil {
			old = one.State.Terminal() || one.State == patch.StateIntegrated && time.Since(one.IntegratedAt) > w.Integration.Keep
		} else if !old {
			failed = append(failed, err)
		}
		if old {
			failed = append(failed, p.integrator.Forget(ctx, w.Path, r.ID))
		}
	}
	return errors.Join(append(failed, err)...)
}
