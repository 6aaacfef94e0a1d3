package startup

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sop-host/sop/host/internal/api"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/host/internal/policy"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/detector"
)

// reload takes the configuration over, all of it or nothing, and says what came
// of it.
func (h *host) reload(ctx context.Context, trigger string) *apiv1.ReloadVerdict {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	h.notifyReloading()
	defer h.notifyReady()
	begin := time.Now()
	verdict := &apiv1.ReloadVerdict{At: timestamppb.New(begin), Trigger: trigger}
	changes, diags := h.takeOver(ctx, trigger)
	verdict.Ok, verdict.Took = !diags.HasErrors(), durationpb.New(time.Since(begin))
	verdict.Changes = api.PlannedChanges(changes)
	verdict.Diagnostics = api.ConfigDiagnostics(diags, diagnosticText)
	if verdict.GetOk() {
		h.logger.Info("configuration taken over", "trigger", trigger, "changes", countChanges(changes))
	} else {
		h.logger.Error("configuration refused; what runs stays as it is", "trigger", trigger, "error", diags.Error())
		h.recordRefusal(ctx, trigger, diags)
	}
	h.metrics.Reloaded(verdict.GetOk(), time.Since(begin))
	h.verdict.Store(verdict)
	h.changed.Tell()
	return verdict
}

// takeOver prepares everything that the configuration changes, and commits it
// all or none of it. h.reloading is held.
func (h *host) takeOver(ctx context.Context, trigger string) ([]config.Change, config.Diagnostics) {
	old := h.loaded.Load()
	next, diags := h.loadAndFollow()
	if next == nil {
		return nil, diags
	}
	if next.config.Host.DataDir != old.config.Host.DataDir {
		return nil, append(diags, next.config.Problem(next.config.Host.DataDirSource,
			"The data directory cannot change while the host runs", "Stop the host and start it again, or set data_dir back."))
	}
	if ds := checkLoaded(next.config); ds.HasErrors() {
		return nil, append(diags, ds...)
	}
	prepared, err := h.pool.Prepare(ctx, next.specs)
	if err != nil {
		return nil, append(diags, preparationFailed(next, err)...)
	}
	components, err := h.components.Prepare(ctx, next.components)
	if err != nil {
		prepared.Discard()
		return nil, append(diags, componentRefused(next, err)...)
	}
	access, ds := h.gate.prepare(ctx, next.config)
	if ds.HasErrors() {
		prepared.Discard()
		components.Discard()
		return nil, append(diags, ds...)
	}
	changes := diff(old, next)
	if err := h.recordChange(ctx, trigger, changes); err != nil {
		prepared.Discard()
		components.Discard()
		access.discard()
		return nil, append(diags, unrecorded(err))
	}
	prepared.Commit()
	components.Commit()
	access.commit()
	h.patches.come(context.WithoutCancel(ctx), old.config.Workspaces, next.config.Workspaces)
	if err := h.workspaces.apply(next.config.Workspaces); err != nil {
		// Checked a moment ago: the tree has gone since. It is reported; the rest stands.
		h.logger.Error("govern workspaces", "error", err)
	}
	h.applySchedules(ctx, next.config)
	h.loaded.Store(next)
	h.protocols.Apply(protocolSettings(next.config))
	h.maintenance.SetOwners(maintenanceOwners(next.config))
	h.hooks.Set(configuredHooks(next.config))
	h.forgetRemoved(ctx)
	h.policy.Replace(next.policies)
	h.tokens.SetLimits(tokenLimits(next.config))
	h.tasks.SetSettings(taskSettings(next.config))
	h.ship.Apply(shipSpecs(&next.config.Audit))
	h.reloaded.Tell()
	h.work.Tell() // what waits for approval may wait for more now
	setLevel(h.logger, next.config.Host.LogLevel)
	h.takeTraces(ctx, old.config, next.config)
	if detectorsChanged(prepared) {
		h.workspaces.rescan()
	}
	return changes, diags
}

// loadAndFollow loads what there is, and has the directory of policies watched
// that the configuration names: also when its policies are refused, so that it
// shows when they are mended.
func (h *host) loadAndFollow() (*loaded, config.Diagnostics) {
	next, diags := load(h.opt.ConfigPath, h.opt.PluginsDir)
	var cfg *config.Config
	if next != nil {
		cfg = next.config
	} else {
		cfg, _ = config.Load(h.opt.ConfigPath, config.Options{PluginsDir: h.opt.PluginsDir})
	}
	if cfg != nil && h.watcher.Follow(cfg.Policy.Dir, policy.Extension) {
		return load(h.opt.ConfigPath, h.opt.PluginsDir) // nothing is missed in between
	}
	return next, diags
}

// detectorsChanged says whether a detector was started or replaced.
func detectorsChanged(c *plugin.Change) bool {
	for id, action := range c.Actions {
		if strings.HasPrefix(id, detector.Kind.Name+".") && (action == plugin.ActionStart || action == plugin.ActionRestart) {
			return true
		}
	}
	return false
}

// diff compares two configurations, the locked programs and the policies included.
func diff(old, next *loaded) []config.Change {
	identity := make(map[*config.Plugin]string)
	var before *config.Config
	for _, l := range []*loaded{old, next} {
		if l == nil {
			continue
		}
		for i := range l.config.Plugins {
			p := &l.config.Plugins[i]
			entry, _ := l.lock.Entry(p.ID())
			identity[p] = entry.Hash
		}
	}
	if old != nil {
		before = old.config
	}
	changes := config.Diff(before, next.config, func(p *config.Plugin) string { return identity[p] })
	return append(changes, policyChange(old, next))
}

func countChanges(changes []config.Change) int {
	n := 0
	for _, c := range changes {
		if c.Action != config.ActionUnchanged {
			n++
		}
	}
	return n
}

// preparationFailed places what kept plugins from starting at their blocks.
func preparationFailed(l *loaded, err error) config.Diagnostics {
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	var diags config.Diagnostics
	for _, err := range errs {
		diags = append(diags, preparationError(l, err)...)
	}
	return diags
}

func preparationError(l *loaded, err error) config.Diagnostics {
	var pe *plugin.PrepareError
	if !errors.As(err, &pe) {
		return config.Diagnostics{{Severity: config.SeverityError, Summary: "Plugins cannot be started", Detail: err.Error()}}
	}
	var refused *plugin.ConfigError
	if errors.As(err, &refused) {
		return refusal(l, pe.ID, refused)
	}
	e := sdk.FromError(pe.Err)
	return config.Diagnostics{l.config.Problem(l.config.Plugin(pe.ID).Source, "Plugin "+pe.ID+" cannot be started",
		strings.TrimSpace(sentence(e.Message)+" "+sentence(e.Remedy)))}
}

// sentence makes s end as one.
func sentence(s string) string {
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

// diagnosticText is what a terminal shows of a diagnostic.
func diagnosticText(d config.Diagnostic) string {
	var b strings.Builder
	if err := (config.Diagnostics{d}).WriteText(&b, false, 0); err != nil { // a Builder does not fail
		return d.String()
	}
	return b.String()
}

// Plan says what starting a host with the configuration would do.
func Plan(_ context.Context, configPath, pluginsDir string) ([]*apiv1.PlannedChange, config.Diagnostics, error) {
	next, diags := load(configPath, pluginsDir)
	if next == nil {
		return nil, diags, nil
	}
	return api.PlannedChanges(diff(nil, next)), diags, nil
}
