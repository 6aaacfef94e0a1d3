package startup

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/component"
	"github.com/sop-host/sop/host/internal/config"
	"github.com/sop-host/sop/host/internal/maintenance"
	"github.com/sop-host/sop/host/internal/plugin"
	"github.com/sop-host/sop/sdk"
)

// maintenanceTime bounds what the host files by itself.
const maintenanceTime = 10 * time.Second

// openMaintenance makes the service of maintenance requests; the store is open.
func (h *host) openMaintenance(ctx context.Context, undo *closers) error {
	service, err := maintenance.NewService(ctx, maintenance.Options{
		Store: h.store.Maintenance(), Tasks: maintenanceTasks{h}, Now: h.tokens.Now,
		OnHappened: func(e maintenance.Happened) {
			h.publisher().Publish(e)
			h.changed.Tell()
		},
		OnTaskError: func(r *maintenance.Record, err error) {
			h.logger.Error("the task of a maintenance request", "request", r.ID, "subsystem", r.Subsystem, "error", err)
		},
	})
	if err != nil {
		return err
	}
	service.SetOwners(maintenanceOwners(h.loaded.Load().config))
	h.maintenance = service
	h.maintained = newMaintained(h, maintenanceRetry)
	undo.add(func() error { h.maintained.close(); return nil })
	return nil
}

// maintenanceOwners are the owners in a configuration.
func maintenanceOwners(cfg *config.Config) maintenance.Owners {
	out := maintenance.Owners{Default: cfg.Maintenance.Owner}
	for _, o := range cfg.Maintenance.Owners {
		out.Of = append(out.Of, maintenance.Owner{Pattern: o.Pattern, Owner: o.Owner})
	}
	return out
}

// maintained is where the host's own subsystems say that they fail, and that they
// are healthy again. What it cannot store it logs, returns, and stores later.
type maintained struct {
	host  *host
	queue chan func(ctx context.Context)
	done  chan struct{}

	mu   sync.Mutex                                 // held while one is stored: a later report is stored later
	left map[string]func(ctx context.Context) error // what could not be stored last, by subsystem
}

// maintainedQueue is how many reports may wait of those that must not block.
const maintainedQueue = 1024

// maintenanceRetry is how often it is tried to store what could not be stored.
const maintenanceRetry = 10 * time.Second

func newMaintained(h *host, retry time.Duration) *maintained {
	m := &maintained{
		host: h, queue: make(chan func(context.Context), maintainedQueue), done: make(chan struct{}), left: make(map[string]func(context.Context) error),
	}
	go m.run(retry)
	return m
}

func (m *maintained) run(retry time.Duration) {
	defer close(m.done)
	tick := time.NewTicker(retry)
	defer tick.Stop()
	for {
		report, more := m.storeLeft, true
		select {
		case report, more = <-m.queue:
		case <-tick.C:
		}
		if !more {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), maintenanceTime)
		report(ctx)
		cancel()
	}
}

// close stores what waits and ends.
func (m *maintained) close() {
	close(m.queue)
	<-m.done
}

// File says that a subsystem fails.
func (m *maintained) File(ctx context.Context, subsystem, description, remedy, severity string) error {
	rank, err := maintenance.ParseSeverity(severity)
	if err != nil {
		return err
	}
	err = m.store(ctx, subsystem, func(ctx context.Context) error {
		_, err := m.host.maintenance.File(ctx, maintenance.Request{
			Subsystem: subsystem, Description: description, Remedy: remedy, Severity: rank, By: actorHost,
		})
		return err
	})
	if err != nil {
		m.host.logger.Error("maintenance could not be asked for", "subsystem", subsystem, "description", description, "error", err)
	}
	return err
}

// store makes a report, and keeps one that fails in the place of what was left of
// its subsystem.
func (m *maintained) store(ctx context.Context, subsystem string, report func(ctx context.Context) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.storeLocked(ctx, subsystem, report)
}

func (m *maintained) storeLocked(ctx context.Context, subsystem string, report func(ctx context.Context) error) error {
	err := report(ctx)
	if err == nil || sdk.FromError(err).Code == codes.InvalidArgument { // no later time is better
		delete(m.left, subsystem)
	} else {
		m.left[subsystem] = report
	}
	return err
}

// storeLeft tries again to store what could not be stored.
func (m *maintained) storeLeft(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for subsystem, report := range maps.Clone(m.left) {
		if err := m.storeLocked(ctx, subsystem, report); err != nil {
			m.host.logger.Error("what befell a subsystem cannot be stored yet", "subsystem", subsystem, "error", err)
		}
	}
}

// Healthy says that a subsystem is healthy.
func (m *maintained) Healthy(ctx context.Context, subsystem string) error {
	err := m.store(ctx, subsystem, func(ctx context.Context) error {
		_, err := m.host.maintenance.Healthy(ctx, subsystem, actorHost)
		return err
	})
	if err != nil {
		m.host.logger.Error("a healthy subsystem could not be noted", "subsystem", subsystem, "error", err)
	}
	return err
}

// later stores a report without holding up who reports. One that finds no place is
// logged: what lasts is reported again.
func (m *maintained) later(subsystem string, report func(ctx context.Context)) {
	select {
	case m.queue <- report:
	default:
		m.host.logger.Error("too many reports of maintenance wait; one is left out", "subsystem", subsystem)
	}
}

// maintainPlugin files a plugin that is not started again by itself, and closes
// that when one is ready. It does not block.
func (h *host) maintainPlugin(e plugin.Event) {
	subsystem := "plugin." + e.ID
	switch e.Phase {
	case plugin.PhaseReady:
		h.maintained.later(subsystem, func(ctx context.Context) { _ = h.maintained.Healthy(ctx, subsystem) }) // logged
	case "failed", "exited", "unhealthy":
		pe := sdk.FromError(e.Err)
		if pe == nil {
			return
		}
		h.maintained.later(subsystem, func(ctx context.Context) {
			if !h.pluginFailed(e.ID) {
				return // it is being restarted
			}
			_ = h.maintained.File(ctx, subsystem, sentence(capital(pe.Message)), pe.Remedy, "high") // logged
		})
	}
}

// maintainComponent files a component that is not started again by itself, or does
// not pass its probe any more, and closes that when it is ready. It does not block.
func (h *host) maintainComponent(e component.Event) {
	subsystem := "component." + e.Name
	switch e.Phase {
	case component.PhaseReady, component.PhaseAdopted:
		h.maintained.later(subsystem, func(ctx context.Context) { _ = h.maintained.Healthy(ctx, subsystem) }) // logged
	case component.PhaseFailed, component.PhaseUnready:
		pe := sdk.FromError(e.Err)
		if pe == nil {
			return
		}
		h.maintained.later(subsystem, func(ctx context.Context) {
			st, err := h.components.Get(e.Name)
			if err != nil || !needsMaintenance(&st) {
				return // it is gone, or about to be started again
			}
			severity := "high"
			if st.Required {
				severity = "critical"
			}
			_ = h.maintained.File(ctx, subsystem, sentence(capital(pe.Message)), pe.Remedy, severity) // logged
		})
	}
}

// needsMaintenance says whether a component has failed for good, or for now, or the
// host cannot start it.
func needsMaintenance(st *component.Status) bool {
	hindered := st.State == component.StateBackoff && st.LastError.Reason == component.ReasonHost
	return hindered || st.State == component.StateFailed || st.State == component.StateUnready || st.State == component.StateCompleted && st.LastError != nil
}

// forgetRemoved closes what the host asked for about components, plugins and
// protocols that are not configured any more: they never report again.
func (h *host) forgetRemoved(ctx context.Context) {
	cfg := h.loaded.Load().config
	filter := maintenance.Filter{States: []maintenance.State{maintenance.Open}}
	for {
		page, err := h.maintenance.List(ctx, filter)
		if err != nil {
			h.logger.Error("look for the maintenance of what is not configured any more", "error", err)
			return
		}
		for _, r := range page.Records {
			if r.FiledBy != actorHost || isConfigured(cfg, r.Subsystem) {
				continue
			}
			if _, err := h.maintenance.Close(ctx, r.ID, actorHost, "it is not configured any more"); err != nil {
				h.logger.Error("close the maintenance of what is not configured any more", "subsystem", r.Subsystem, "error", err)
			}
		}
		if page.Next == "" {
			return
		}
		filter.Token = page.Next
	}
}

// isConfigured says whether a subsystem is there; what the configuration does not
// name is.
func isConfigured(cfg *config.Config, subsystem string) bool {
	kind, name, _ := strings.Cut(subsystem, ".")
	switch kind {
	case "component":
		c := cfg.Component(name)
		return c != nil && c.Enabled
	case "plugin":
		p := cfg.Plugin(name)
		return p != nil && p.Enabled
	case "protocol":
		name, _, _ = strings.Cut(name, ".") // protocol.arp.payloads is of arp
		return slices.ContainsFunc(cfg.Protocols, func(p config.Protocol) bool { return p.Name == name })
	}
	return true
}

// pluginFailed says whether a plugin will not be started again by itself.
func (h *host) pluginFailed(id string) bool {
	for _, s := range h.pool.Status() {
		if s.ID == id {
			return s.State == plugin.StateFailed
		}
	}
	return false
}

// capital makes a message the beginning of a sentence.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
